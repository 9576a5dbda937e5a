"""Labelled images, read one by one; and one split of them into training and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["CorruptImageError", "ImageSet", "check_labels", "split_of"]

_TEST_SHARE = 0.4


class CorruptImageError(ValueError):
    """A file that is no image; the message names it."""


def check_labels(labels: Any, n_images: int, n_classes: int) -> None:
    """Check labels: one whole number for each image, from 0 to the number of classes minus 1.

    Args:
        labels: The labels, an array or a tensor.
        n_images: Number of images.
        n_classes: Number of classes.

    Raises:
        ValueError: Another number of labels, labels that are not whole numbers, or labels out of range.
    """
    found = np.asarray(labels)
    if found.shape != (n_images,):
        raise ValueError(f"each of the {n_images} images needs one label; got labels of the shape {list(found.shape)}")
    if found.dtype.kind not in "iu":
        raise ValueError(f"labels are whole numbers, from 0 on; got {found.dtype}")
    wrong = found[(found < 0) | (found >= n_classes)]
    if len(wrong):
        raise ValueError(f"labels of {n_classes} classes go from 0 to {n_classes - 1}; got {wrong[0]}")


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

    Raises:
        ValueError: Labels that are no numbers of classes.
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    content: str
    from_files: bool = False

    def __post_init__(self) -> None:
        try:
            check_labels(self.labels, len(self.labels), len(self.classes))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

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
