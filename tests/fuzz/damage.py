"""How files are damaged: emptied, cut off, flipped, swapped for others, or not there at all."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

__all__ = ["DAMAGES", "Damage", "damaged", "replaced_in_zip"]


@dataclass(frozen=True)
class Damage:
    """A way to damage a file.

    Attributes:
        label: What is wrong with the file then.
        content: The new content, from the good one; ``None`` where there is no file.
        means_nothing: Whether no reader could make sense of it, whatever the kind of file.
    """

    label: str
    content: Callable[[bytes, Random], bytes | None]
    means_nothing: bool = False


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 1, 3, 30])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut_out(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content))
    return content[:start] + content[start + random.randrange(1, 1 + max(1, len(content) // 3)) :]


def _doubled(content: bytes, random: Random) -> bytes:
    start = random.randrange(len(content))
    return content[:start] + content[start : start + 200] + content[start:]


def _lines_moved(content: bytes, random: Random) -> bytes:
    lines = content.split(b"\n")
    random.shuffle(lines)
    return b"\n".join(lines)


def _zip_of_nothing(content: bytes, random: Random) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("data", "{}")
    return made.getvalue()


DAMAGES: tuple[Damage, ...] = (
    Damage("missing", lambda content, random: None, True),
    Damage("a folder", lambda content, random: None, True),
    Damage("empty", lambda content, random: b"", True),
    Damage("one byte", lambda content, random: content[:1], True),
    Damage("truncated", lambda content, random: content[: random.randrange(1, len(content))]),
    Damage("bits flipped", _flipped),
    Damage("a part cut out", _cut_out),
    Damage("a part twice", _doubled),
    Damage("lines in another order", _lines_moved),
    Damage("zeros", lambda content, random: bytes(len(content)), True),
    Damage("random bytes", lambda content, random: random.randbytes(200), True),
    Damage("another encoding", lambda content, random: "# für ä\n".encode("utf-16") + content, True),
    Damage("Latin-1", lambda content, random: content + "é\xff".encode("latin-1")),
    Damage("a picture", lambda content, random: b"\x89PNG\r\n\x1a\n" + random.randbytes(100), True),
    Damage("HTML", lambda content, random: b"<!doctype html><html><body>404</body></html>", True),
    Damage(
        "a pointer of git-lfs", lambda content, random: b"version https://git-lfs.github.com/spec/v1\noid 1\n", True
    ),
    Damage("a zip of something else", _zip_of_nothing, True),
    Damage("a pickle of a number", lambda content, random: b"\x80\x04K\x03.", True),
    Damage("JSON's null", lambda content, random: b"null", True),
    Damage("JSON's empty object", lambda content, random: b"{}", True),
    Damage("nested without end", lambda content, random: b"[" * 100_000, True),
    Damage("blank lines", lambda content, random: b"\n\n \n", True),
    Damage("no end of the last line", lambda content, random: content.rstrip()),
    Damage("a byte order mark", lambda content, random: b"\xef\xbb\xbf" + content),
)


def damaged(path: Path, content: bytes, damage: Damage, random: Random) -> None:
    """Write a damaged file, or a folder in its place, or nothing."""
    if damage.label == "a folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    made = damage.content(content, random)
    if made is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(made)


def replaced_in_zip(content: bytes, changes: Mapping[str, bytes | None]) -> bytes:
    """Return a zip with some of its members replaced, or left out."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(made, "w") as after:
        for member in before.namelist():
            data = changes.get(member, before.read(member))
            if data is not None:
                after.writestr(member, data)
    return made.getvalue()
