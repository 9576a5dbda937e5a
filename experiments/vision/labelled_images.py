"""Labelled images, read one by one; and one split of them into training and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

__all__ = ["CorruptImageError", "ImageSet", "split_of"]

_TEST_SHARE = 0.4


class CorruptImageError(ValueError):
    """A file that is no image; the message names it."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels, read when asked for.

    Attributes:
        name: What it was asked for by.
        labels: Class of each image, integers ``[N]``.
        classes: Names of the classes.
        read: Number of an image to its pixels, ``uint8 [H, W, 3]``.
        content: What makes it this set and no other: names, sizes and times of files, or a digest of the pixels.
        from_files: Whether an image may turn out not to be one.
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    content: str
    from_files: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def key(self) -> str:
        """A digest of the content."""
        return hashlib.sha256(f"{self.name} {self.content} {self.labels.tobytes().hex()}".encode()).hexdigest()[:16]

    def subset(self, rows: Sequence[int] | np.ndarray) -> ImageSet:
        """Return some of the images, in the order given."""
        chosen, read = np.asarray(rows, dtype=int), self.read
        content = f"{self.content} {hashlib.sha256(chosen.tobytes()).hexdigest()}"
        return ImageSet(
            self.name, self.labels[chosen], self.classes, lambda row: read(int(chosen[row])), content, self.from_files
        )


def split_of(images: ImageSet, split: str) -> ImageSet:
    """Return a part of a set without a split of its own; the same every time, and the same share of every class."""
    generator = np.random.default_rng(0)
    is_test = np.zeros(len(images), dtype=bool)
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(images.labels == label))
        is_test[rows[: round(_TEST_SHARE * len(rows))]] = True
    return images.subset(np.flatnonzero(is_test == (split == "test")))
