"""Where unpacked models are kept, and how they get there."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "moved_whole"]


def cache_folder() -> Path:
    """Return where prepared models are kept: ``$EQUIRL_CACHE``, or ``equirl`` in the user's cache."""
    given = os.environ.get("EQUIRL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "equirl"


def moved_whole(made: Path, folder: Path) -> None:
    """Move a finished folder to its place, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise
