"""The common parts of a study's runs: images, network, and features of all views, stored on disk in pieces."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn
from tqdm import tqdm

from equirl.experiments.vision.config import FinetuneConfig, StudyConfig, ZeroShotConfig, variants_of
from equirl.experiments.vision.image_sets import CorruptImageError, ImageSet, load_images, read_images
from equirl.experiments.vision.training import main_process_first, n_processes, train_or_read
from equirl.files import write_text, written_whole
from equirl.models.image_backbones import load_backbone
from equirl.models.image_classifier import Classifier, invert
from equirl.models.image_heads import Bridge, LinearHead
from equirl.models.image_lambda import shrink
from equirl.models.image_zero_shot import load_zero_shot
from equirl.optional import cache_folder
from equirl.rotations import InterpolatedRotations, image_action, make_view, rotate, view_names
from equirl.testing import evaluation_mode

__all__ = ["PIECE", "ViewFeatures", "Workbench", "compute_missing", "draw_images", "is_interpolated", "readable"]
__all__ += ["small_cnn_file", "trunk_digest", "workbench"]

PIECE = 256
"""Images in a file of features."""

_BATCH_PIXELS = 16 * 224 * 224  # so that the activations of one call stay in the cache
_LARGE = 100  # from this many rows of an image on, channels last in memory is twice as fast (measured)
_PRETRAIN_RATE = 1e-3


def trunk_digest(classifier: Classifier) -> str:
    """Return a digest of the preprocessing and of all layers and weights, except the last layer's."""
    about = f"{classifier.size} {classifier.mean.flatten().tolist()} {classifier.std.flatten().tolist()}"
    total = hashlib.sha256(about.encode())
    for part in (classifier.feature_maps, classifier.head):
        total.update(re.sub(r" at 0x\w+", "", repr(part)).encode())  # includes layers without weights
        for weights in _weights_of(part):
            total.update(weights)
    return total.hexdigest()[:16]


def _weights_of(module: nn.Module) -> Iterator[bytes]:
    return (name.encode() + value.cpu().numpy().tobytes() for name, value in module.state_dict().items())


@dataclass(frozen=True)
class ViewFeatures:
    """Features of some views of some images, in one file for each view and each ``PIECE`` images.

    Attributes:
        classifier: The network; its last layer is not used.
        images: The images.
        views: Names of the views; see ``view_names``.
        part: ``"pooled"`` features, feature ``"maps"``, or ``"inputs"``: shrunk images.
        folder: Folder of the files. Their names change with the network, the preprocessing and the images.
        device: Torch device.
        digest: The network's ``trunk_digest``, if it is known already.
        degrees: Angle by which each image is turned first, ``[N]``; ``None``: all are upright.
    """

    classifier: Classifier
    images: ImageSet
    views: tuple[str, ...]
    part: str
    folder: Path
    device: str = "cpu"
    digest: str | None = None
    degrees: np.ndarray | None = None

    @cached_property
    def key(self) -> str:
        """A digest of all that changes the features of a view."""
        turned = "" if self.degrees is None else hashlib.sha256(self.degrees.tobytes()).hexdigest()
        about = f"{self.part} {self.classifier.size} {self.images.key} {turned}"
        if self.part != "inputs":
            about += f" {self.digest or trunk_digest(self.classifier)}"
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def missing(self) -> list[tuple[int, str]]:
        """Return the pieces and views that are not on disk."""
        pieces = range(-(-len(self.images) // PIECE))
        return [(piece, view) for piece in pieces for view in self.views if not self._file(piece, view).exists()]

    def read(self, rows: range) -> Tensor:
        """Return preprocessed images, turned first, ``[n, 3, size, size]``."""
        images = read_images(self.images, rows, self.classifier.size)
        if self.degrees is None:
            return images
        return rotate(images, torch.from_numpy(self.degrees[rows.start : rows.stop]).double())

    @torch.no_grad()
    def compute(self, piece: int, view: str) -> None:
        """Compute and write one file."""
        images = self.read(range(piece * PIECE, min((piece + 1) * PIECE, len(self.images))))
        found = []
        for some in images.split(max(1, _BATCH_PIXELS // self.classifier.size**2)):  # type: ignore[no-untyped-call]
            seen = make_view(view, some.to(self.device))
            if self.part == "inputs":
                features = shrink(seen)
            else:
                maps = self.classifier.maps(seen)
                features = maps if self.part == "maps" else self.classifier.pooled(maps)
            found.append(features.float().cpu())
        with written_whole(self._file(piece, view)) as temporary, temporary.open("wb") as file:
            np.save(file, torch.cat(found).contiguous().numpy())

    def pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the rows of each piece and their features, ``float32 [n, len(views), ...]``."""
        for at in range(0, len(self.images), PIECE):
            features = self._piece(at // PIECE)
            yield slice(at, at + len(features)), features

    def load(self, rows: Sequence[int] | np.ndarray | None = None) -> Tensor:
        """Return the features of some images or all, ``float32 [n, len(views), ...]``."""
        wanted = torch.as_tensor(range(len(self.images)) if rows is None else rows)
        found: Tensor | None = None
        for piece in sorted(set((wanted // PIECE).tolist())):
            features, here = self._piece(piece), wanted // PIECE == piece
            found = features.new_empty(len(wanted), *features.shape[1:]) if found is None else found
            found[here] = features[wanted[here] % PIECE]
        return torch.empty(0) if found is None else found

    def _piece(self, piece: int) -> Tensor:
        arrays = []
        for path in (self._file(piece, view) for view in self.views):
            try:
                arrays.append(np.load(path))
            except (ValueError, EOFError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}); delete the file to compute its features again"
                ) from error
        return torch.from_numpy(np.stack(arrays, axis=1))

    def _file(self, piece: int, view: str) -> Path:
        return self.folder / self.key / f"{piece:05d}-{view.replace(' ', '-')}.npy"


def compute_missing(wanted: Sequence[ViewFeatures], n_jobs: int, progress: bool = True) -> None:
    """Compute the files that are not on disk yet, some at a time; a stop loses only those in progress.

    Args:
        wanted: Features that are needed.
        n_jobs: Threads, each of which runs torch with its own number of threads. During the computation the networks
            are in evaluation mode; afterwards they are on the CPU.
        progress: Whether to show a bar.
    """
    tasks = {(features.key, *task): (features, *task) for features in wanted for task in features.missing()}
    if not tasks:
        return
    networks = [features.classifier.to(features.device) for features in wanted]
    for network in networks:
        if network.size >= _LARGE:
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Threads suffice, as torch releases the interpreter's lock, and they copy neither network nor images.
    parallel = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered")
    with evaluation_mode(*networks):
        made = parallel(delayed(features.compute)(piece, view) for features, piece, view in tasks.values())
        list(tqdm(made, total=len(tasks), desc="features", unit="file", disable=None if progress else True))
    for network in networks:
        network.cpu()


def is_interpolated(group: str) -> bool:
    """Return whether a group turns images with interpolation, so that it acts approximately."""
    return isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations)


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
    try:
        corrupt: dict[str, str] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # nobody has looked yet, or the file is damaged
        corrupt = {}
        for row in range(len(images)):
            try:
                images.read(row)
            except CorruptImageError as error:
                corrupt[str(row)] = str(error)
        write_text(path, json.dumps(corrupt, indent=1))
    if corrupt and on_corrupt != "skip":
        found = f"{next(iter(corrupt.values()))} ({len(corrupt)} in all)"
        raise CorruptImageError(f"{found}; --on-corrupt skip leaves such images out")
    left = [row for row in range(len(images)) if str(row) not in corrupt]
    return (images.subset(left) if corrupt else images), list(corrupt.values())


class Images(NamedTuple):
    """Images that prepare the network, those that λ or the whole network learns from, and those of the tests."""

    preparing: ImageSet
    labelled: ImageSet
    test: ImageSet
    left_out: list[str]
    """A message for each image that cannot be read."""


@cache
def draw_images(config: StudyConfig) -> Images:
    """Return the images of a study, drawn once in each process, in an order that no seed changes.

    Raises:
        ValueError: An unknown set, or too few images.
        CorruptImageError: An image cannot be read, and the study does not skip such images.
    """
    sets, left_out = [], []
    for split in ("train", "test"):
        images, messages = readable(load_images(config.data, split), config.on_corrupt, _folder(config))
        if not len(images):
            raise ValueError(f"{config.data} has no {split} images")
        sets.append(images)
        left_out += messages
    train, test = sets
    n_labels = max((variant.labels for variant in variants_of(config)), default=0)
    asked = {"--labels": n_labels}
    if isinstance(config, FinetuneConfig):
        n_preparing = asked["--head-images"] = config.head_images
    else:
        n_preparing = min(config.centre_images, len(train))  # without labels, so they may overlap the others
    if sum(asked.values()) > len(train):
        needs = " and ".join(f"{n} for {option}" for option, n in asked.items())
        raise ValueError(f"{config.data} has {len(train)} images to learn from, too few: {needs}; ask for less")
    order = np.random.default_rng(0).permutation(len(train))
    chosen = np.random.default_rng(0).permutation(len(test))[: config.test_images or None]
    preparing, labelled = train.subset(order[:n_preparing]), train.subset(order[::-1][:n_labels])
    return Images(preparing, labelled, test.subset(chosen), left_out)


def small_cnn_file(config: FinetuneConfig, seed: int) -> Path:
    """Return the CSV of a small CNN's training; its weights are beside it."""
    about = [config.pretrain_steps, config.batch_size, config.invert, config.mixed_precision, n_processes()]
    return config.run_file(f"small-cnn-{seed}", draw_images(config).preparing.key, *about)


@cache
def workbench(config: StudyConfig, seed: int) -> Workbench:
    """Return the workbench of a study and a seed, made once in each process, with all features on disk."""
    bench = Workbench(config, seed)
    parts = sorted({part for variant in variants_of(config) for part in variant.parts})
    wanted = []
    for group in config.group:
        sets = ["0", *(["uniform"] if is_interpolated(group) else []), *(["any"] if config.any_angle else [])]
        sets += ["labelled"] if len(bench.images.labelled) else []
        wanted += [bench.features(group, part, images) for images in sets for part in parts]
    with main_process_first(config.device):
        compute_missing(wanted, config.n_jobs)
    return bench


class Workbench:
    """The images of a study, its network, and where the features are.

    Args:
        config: The study.
        seed: Seed of the small CNN, which is trained here if it has not been before; 0 for pretrained networks.

    Raises:
        ValueError: Something unknown, or too few images.
    """

    def __init__(self, config: StudyConfig, seed: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.images = draw_images(config)
        self.classifier = self._prepared_classifier(seed)
        self._digest = trunk_digest(self.classifier)
        about = f"{self._digest} {self.images.test.key} {self.images.labelled.key}".encode()
        self.key = hashlib.sha256(about + b"".join(_weights_of(self.classifier.classifier))).hexdigest()[:16]

    def turns(self, group: str) -> Tensor:
        """Return the group element that turns each test image at angle ``"uniform"``, ``[N]``."""
        return torch.from_numpy(_random_elements(group, 1, self.images.test))

    def features(self, group: str, part: str, images: str) -> ViewFeatures:
        """Return the features of all views of some images; see ``ViewFeatures`` for the parts.

        The images are the test images at the angle ``"0"``, ``"uniform"`` or ``"any"`` (0 to 360 degrees), or the
        ``"labelled"`` ones, which an interpolated group turns by random elements.
        """
        some = self.images.labelled if images == "labelled" else self.images.test
        degrees = None
        if images == "any":
            degrees = np.random.default_rng(2).uniform(0, 360, len(some))
        elif images == "uniform" or (images == "labelled" and is_interpolated(group)):
            elements = _random_elements(group, 1 if images == "uniform" else 3, some)
            degrees = 360 / len(view_names(group)) * elements.astype(float)
        where = (_folder(self.config), self.config.device)
        return ViewFeatures(self.classifier, some, view_names(group), part, *where, self._digest, degrees)

    def labelled_rows(self, n: int, seed: int) -> np.ndarray:
        """Return the labelled images from which a seed learns."""
        return np.random.default_rng(seed).permutation(len(self.images.labelled))[:n]

    def _prepared_classifier(self, seed: int) -> Classifier:
        config, classes = self.config, self.images.test.classes
        if isinstance(config, ZeroShotConfig):
            names = read_class_names(config.class_names, classes)
            classifier = load_zero_shot(config.model, names, config.templates)
        else:
            classifier = load_backbone(config.model, len(classes), seed)
        if config.invert:
            invert(classifier)
        last = classifier.classifier
        if isinstance(config, FinetuneConfig) and config.model == "small-cnn":
            path, size = small_cnn_file(config, seed).with_suffix(".pt"), classifier.size
            settings = {"seed": seed, "steps": config.pretrain_steps, "learning_rate": _PRETRAIN_RATE}
            train_or_read(classifier, path, config, self.images.preparing, size, **settings)
        elif isinstance(last, Bridge | LinearHead):
            upright = ViewFeatures(classifier, self.images.preparing, ("0",), "pooled", _folder(config), config.device)
            with main_process_first(config.device):
                compute_missing([upright], config.n_jobs)
            features = upright.load()[:, 0].numpy()
            if isinstance(last, Bridge):
                last.centre(features)
            else:
                last.fit(features, self.images.preparing.labels)
        return classifier.cpu().eval()


def _folder(config: StudyConfig) -> Path:
    # Give the folder another name when preprocessing or turning changes what it computes.
    return config.cache or cache_folder() / "features"


def _random_elements(group: str, seed: int, images: ImageSet) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(view_names(group)), size=len(images))


def read_class_names(path: Path | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return class names: the lines of a file, or else the names that the image set knows.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It has another number of names than there are classes, or the known names are mere numbers.
    """
    if path is None:
        if all(name.isdigit() for name in known):
            raise ValueError(f"the classes are called {', '.join(known[:3])} ...; name them with --class-names FILE")
        return tuple(known)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of class names {path}")
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8: {error}") from error
    if len(names) != len(known):
        raise ValueError(
            f"{path} has {len(names)} class names, the images have {len(known)} classes: {list(known)[:5]} ..."
        )
    return names
