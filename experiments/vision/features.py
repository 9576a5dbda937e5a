"""Features of all views of all images, kept on disk in pieces, so that they are computed once, even after a stop."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from torch import Tensor
from tqdm import tqdm

from equirl.experiments.vision.images import ImageSet, read_images
from equirl.files import written_whole
from equirl.models.image_classifier import Classifier
from equirl.models.image_lambda import shrink
from equirl.rotations import make_view, rotate
from equirl.testing import evaluation_mode

__all__ = ["PIECE", "ViewFeatures", "compute_missing", "take_views", "trunk_digest"]

PIECE = 256
"""Images in a file."""

_BATCH_PIXELS = 16 * 224 * 224  # so that the activations of one call stay in the cache
_LARGE = 100  # from this many rows of an image on, channels last in memory is twice as fast (measured)


def trunk_digest(classifier: Classifier) -> str:
    """Return a digest of the preprocessing and of all layers and weights, except the last layer's."""
    about = f"{classifier.size} {classifier.mean.flatten().tolist()} {classifier.std.flatten().tolist()}"
    total = hashlib.sha256(about.encode())
    for part in (classifier.feature_maps, classifier.head):
        total.update(re.sub(r" at 0x\w+", "", repr(part)).encode())  # includes layers without weights
        for name, value in part.state_dict().items():
            total.update(name.encode())
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


def take_views(features: Tensor, elements: Tensor) -> Tensor:
    """Return the views ``elements [N, |G|]`` of features ``[N, |G|, ...]``."""
    return features[torch.arange(len(features)).unsqueeze(1), elements]


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
        numbers = np.arange(len(self.images)) if rows is None else np.asarray(rows)
        found = torch.empty(0)
        for piece in np.unique(numbers // PIECE):
            features, here = self._piece(int(piece)), torch.from_numpy(np.flatnonzero(numbers // PIECE == piece))
            found = found if len(found) else features.new_empty(len(numbers), *features.shape[1:])
            found[here] = features[torch.from_numpy(numbers)[here] % PIECE]
        return found

    def _piece(self, piece: int) -> Tensor:
        return torch.from_numpy(np.stack([_load_array(self._file(piece, view)) for view in self.views], axis=1))

    def _file(self, piece: int, view: str) -> Path:
        return self.folder / self.key / f"{piece:05d}-{view.replace(' ', '-')}.npy"


def _load_array(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete the file to compute its features again") from error
    return found


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
    for features in wanted:
        features.classifier.to(features.device)
        if features.classifier.size >= _LARGE:
            features.classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # Threads suffice, as torch releases the interpreter's lock, and they copy neither network nor images.
    parallel = Parallel(n_jobs=n_jobs, prefer="threads", return_as="generator_unordered")
    with evaluation_mode(*(features.classifier for features in wanted)):
        made = parallel(delayed(features.compute)(piece, view) for features, piece, view in tasks.values())
        for _ in tqdm(made, total=len(tasks), desc="features", unit="file", disable=None if progress else True):
            pass
    for features in wanted:
        features.classifier.cpu()
