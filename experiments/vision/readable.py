"""Which images of a set can be read: looked at once, then remembered."""

from __future__ import annotations

import json
from pathlib import Path

from equirl.experiments.vision.labelled_images import CorruptImageError, ImageSet
from equirl.files import written_whole

__all__ = ["readable"]


def readable(images: ImageSet, on_corrupt: str, cache: Path) -> tuple[ImageSet, list[str]]:
    """Return the images that can be read, and what is said of the others.

    Args:
        images: The images; each file is opened, one at a time.
        on_corrupt: ``"refuse"``: an image that cannot be read is an error; ``"skip"``: it is left out.
        cache: Folder where it is remembered.

    Raises:
        CorruptImageError: An image cannot be read, and is not to be skipped.
    """
    if not images.from_files:
        return images, []
    path = cache / f"readable-{images.key}.json"
    corrupt = _remembered(path)
    if corrupt is None:
        corrupt = {}
        for row in range(len(images)):
            try:
                images.read(row)
            except CorruptImageError as error:
                corrupt[str(row)] = str(error)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(corrupt, indent=1), encoding="utf-8")
    if not corrupt:
        return images, []
    if on_corrupt != "skip":
        raise CorruptImageError(
            f"{next(iter(corrupt.values()))} ({len(corrupt)} in all); --on-corrupt skip leaves such images out"
        )
    rows = [row for row in range(len(images)) if str(row) not in corrupt]
    return images.subset(rows), list(corrupt.values())


def _remembered(path: Path) -> dict[str, str] | None:
    """Return the images that could not be read, with what is said of each; ``None``: nobody has looked yet."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: looked at again
        return None
    return found if isinstance(found, dict) else None
