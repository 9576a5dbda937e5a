"""Check the built site: every local link, picture, script and anchor leads somewhere."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collects the anchors and the links of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.anchors.add(value)
            if name in ("href", "src"):
                self.links.append(value)


def broken_links(site: Path) -> list[str]:
    """Return a line for each local link of the site that leads nowhere."""
    site = site.resolve()
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            if path.name == "404.html" or _leads_out(link):
                continue
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            known = target in pages and (not anchor or anchor in pages[target].anchors)
            if not known and (anchor or not target.is_file()):
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


def _leads_out(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc) or link in ("", "#", ".") or link.startswith("#__")


if __name__ == "__main__":
    found = broken_links(Path(sys.argv[1]))
    print("\n".join(found) or "all local links lead somewhere")
    sys.exit(bool(found))
