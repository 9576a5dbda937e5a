"""MkDocs hooks: the sources as they are installed, result files in the site, and tables from CSVs."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))

from results_tables import RESULTS, cell, record_line, render

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "build" / "docs-sources" / "equirl"
_MARKER = re.compile(r"\{\{ (table|record|cell): (.+?) \}\}")
_MAKERS = {"table": render, "record": record_line, "cell": cell}
_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?(?:[\w.]+\.)?(\w+)`")
_PUBLISHED = ("*.png", "*.csv", "*.json", "*.html")


def on_startup(**_: Any) -> None:
    """Lay the folders out as they install, where mkdocstrings finds them: agents/ becomes equirl/agents, and so on."""
    shutil.rmtree(SOURCES.parent, ignore_errors=True)
    only_sources = shutil.ignore_patterns("__pycache__", "results", "data")
    shutil.copytree(ROOT / "equirl", SOURCES, ignore=only_sources)
    for folder in ("agents", "envs"):
        shutil.copytree(ROOT / folder, SOURCES / folder, ignore=only_sources)
    for path in SOURCES.rglob("*.py"):  # roles of reStructuredText, which Markdown does not know, become code
        path.write_text(_ROLE.sub(r"``\1``", path.read_text(encoding="utf-8")), encoding="utf-8")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put pictures and raw numbers of the studies under results/data, and the example programs under examples."""
    for path in sorted((ROOT / "examples").glob("*.py")):
        files.append(File.generated(config, f"examples/{path.name}", abs_src_path=str(path)))
    for pattern in _PUBLISHED:
        for path in sorted(RESULTS.glob(f"*/{pattern}")):
            uri = f"results/data/{path.relative_to(RESULTS).as_posix()}"
            files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Replace ``{{ table: NAME }}``, ``{{ record: FOLDER }}`` and ``{{ cell: NAME | HEAD=CELL | HEAD }}``."""

    def made(found: re.Match[str]) -> str:
        try:
            return _MAKERS[found[1]](found[2])
        except (OSError, ValueError, KeyError) as error:
            raise PluginError(f"{page.file.src_uri}: {found[0]}: {error}") from error

    return _MARKER.sub(made, markdown)
