"""Image sets of other libraries, by name: the Hugging Face hub's and torchvision's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from equirl.experiments.extras import needed
from equirl.experiments.vision.image_folders import as_pixels
from equirl.experiments.vision.labelled_images import CorruptImageError, ImageSet

__all__ = ["of_the_hub", "of_torchvision"]


def of_the_hub(name: str, split: str) -> ImageSet:
    """Return images of the package ``datasets``.

    Args:
        name: ``"NAME"``, or ``"NAME:COLUMN"`` where there are several columns of class labels.
        split: ``"train"`` or ``"test"``.

    Raises:
        ValueError: No column of images, or none or several of class labels.
        ModuleNotFoundError: The package is not installed.
    """
    datasets = needed("datasets", "datasets")
    name, _, column = name.partition(":")
    try:
        table = datasets.load_dataset(name, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"hub:{name} cannot be loaded: {' '.join(str(error).split())[:300]}") from error
    kinds = {key: type(value).__name__ for key, value in table.features.items()}
    images = [key for key, kind in kinds.items() if kind == "Image"]
    labels = [key for key, kind in kinds.items() if kind == "ClassLabel" and column in ("", key)]
    if not images:
        raise ValueError(f"hub:{name} has no column of images: {kinds}")
    if len(labels) != 1:
        raise ValueError(f"hub:{name} has {len(labels)} columns of class labels; name one, hub:{name}:COLUMN: {kinds}")

    def read(row: int) -> np.ndarray:
        try:
            return as_pixels(table[row][images[0]])
        except (OSError, SyntaxError, ValueError) as error:
            raise CorruptImageError(f"image {row} of hub:{name} is none that can be read: {error}") from error

    classes = tuple(table.features[labels[0]].names)
    content = f"{table._fingerprint} {labels[0]}"
    return ImageSet(f"hub:{name}", np.array(table[labels[0]]), classes, read, content, from_files=True)


def of_torchvision(name: str, split: str) -> ImageSet:
    """Return images of ``torchvision.datasets`` that are on disk already.

    Args:
        name: ``"NAME:FOLDER"``, such as ``"CIFAR10:data"``; sets with ``train``, ``classes`` and ``targets``.
        split: ``"train"`` or ``"test"``.

    Raises:
        ValueError: An unknown name, no folder, or files that are not there.
        ModuleNotFoundError: The package is not installed.
    """
    which, _, folder = name.partition(":")
    if not folder:
        raise ValueError(f"torchvision:{name} has no folder; give torchvision:{which or 'NAME'}:FOLDER")
    known = needed("torchvision", "torchvision").datasets
    try:
        table = getattr(known, which)(root=str(Path(folder).expanduser()), train=split == "train", download=False)
        labels, classes = np.array(table.targets), tuple(str(name) for name in table.classes)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(f"torchvision:{name} cannot be loaded: {error}") from error
    pixels = getattr(table, "data", None)  # where all of them are in memory
    digest = "" if pixels is None else hashlib.sha256(np.asarray(pixels).tobytes()).hexdigest()
    content = f"{Path(folder).resolve()} {len(labels)} {digest}"
    return ImageSet(f"torchvision:{which}", labels, classes, lambda row: as_pixels(table[row][0]), content)
