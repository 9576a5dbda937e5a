"""Labelled images, read one by one: their labels, their split, their preprocessing, and files that are no images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equirl.arguments import whole_number
from equirl.experiments.optional import needed
from equirl.files import written_whole
from equirl.models.image_classifier import check_labels

__all__ = ["CorruptImageError", "ImageSet", "as_pixels", "preprocess", "read_images", "readable", "split_of"]

_TEST_SHARE = 0.4
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")


class CorruptImageError(ValueError):
    """A file that is no image; the message names it."""


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels; an image is read when it is used.

    Attributes:
        name: Name by which the user asked for the set.
        labels: Class of each image, integers ``[N]``.
        classes: Names of the classes.
        read: Function from the number of an image to its pixels, ``uint8 [H, W, 3]``.
        content: Text that identifies the set: names, sizes and times of files, or a digest of the pixels.
        from_files: Whether reading an image may raise ``CorruptImageError``.

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
        return replace(self, labels=self.labels[chosen], read=lambda row: read(int(chosen[row])), content=content)


def split_of(images: ImageSet, split: str) -> ImageSet:
    """Return the ``"train"`` or ``"test"`` part of a set without a split; the test part is two fifths of each class."""
    generator = np.random.default_rng(0)
    is_test = np.zeros(len(images), dtype=bool)
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(images.labels == label))
        is_test[rows[: round(_TEST_SHARE * len(rows))]] = True
    return images.subset(np.flatnonzero(is_test == (split == "test")))


def as_pixels(image: Any) -> np.ndarray:
    """Return the pixels of an image of Pillow, ``uint8 [H, W, 3]``, turned upright by its EXIF orientation."""
    upright = needed("PIL.ImageOps", "pillow").exif_transpose(image)
    if upright.mode in _DEEP_MODES:  # Pillow would clip these at 255
        deep = np.asarray(upright).astype(float)
        gray = (deep / 257 if deep.max() > 255 else deep).clip(0, 255).round().astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def preprocess(pixels: np.ndarray, size: int) -> Tensor:
    """Return an image as a network's input: the shorter side is scaled to ``size``, the longer one cut to its centre.

    Args:
        pixels: ``uint8 [H, W, 3]``.
        size: Rows and columns of the result, floats from 0 to 1 of the shape ``[3, size, size]``.

    Raises:
        ValueError: Pixels of another kind or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"an image is bytes [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}")
    whole_number(size, "size", 1)
    image_module = needed("PIL.Image", "pillow")
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    image = image_module.fromarray(pixels)
    if scale != 1:
        image = image.resize((round(width * scale), round(height * scale)), image_module.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    cut = np.asarray(image)[top : top + size, left : left + size]
    return torch.tensor(cut, dtype=torch.float32).permute(2, 0, 1) / 255


def read_images(images: ImageSet, rows: Sequence[int], size: int) -> Tensor:
    """Return preprocessed images, ``[n, 3, size, size]``."""
    return torch.stack([preprocess(images.read(row), size) for row in rows])


def readable(images: ImageSet, on_corrupt: str, cache: Path) -> tuple[ImageSet, list[str]]:
    """Return the images that can be read, and a message for each of the others.

    Args:
        images: The images; each file is opened once.
        on_corrupt: ``"refuse"``: an image that cannot be read is an error; ``"skip"``: it is left out.
        cache: Folder of the file that remembers the messages.

    Raises:
        CorruptImageError: An image cannot be read, and ``on_corrupt`` is not ``"skip"``.
    """
    if not images.from_files:
        return images, []
    path = cache / f"readable-{images.key}.json"
    corrupt: dict[str, str] = {}
    try:
        corrupt = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # nobody has looked yet, or the file is damaged
        for row in range(len(images)):
            try:
                images.read(row)
            except CorruptImageError as error:
                corrupt[str(row)] = str(error)
        with written_whole(path) as temporary:
            temporary.write_text(json.dumps(corrupt, indent=1), encoding="utf-8")
    if corrupt and on_corrupt != "skip":
        found = f"{next(iter(corrupt.values()))} ({len(corrupt)} in all)"
        raise CorruptImageError(f"{found}; --on-corrupt skip leaves such images out")
    left = [row for row in range(len(images)) if str(row) not in corrupt]
    return (images.subset(left) if corrupt else images), list(corrupt.values())
