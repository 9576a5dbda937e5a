"""A network, its images and its features: all that the variants of one study share for one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache, cached_property, partial

import numpy as np
import torch
from torch import Tensor

from equirl.experiments.model_cache import cache_folder
from equirl.experiments.vision.classifiers import LinearHead, invert, load_backbone
from equirl.experiments.vision.config import FinetuneConfig, StudyConfig, ZeroShotConfig, variants_of
from equirl.experiments.vision.features import Source, ViewFeatures, compute_missing, trunk_digest
from equirl.experiments.vision.image_sets import load_images
from equirl.experiments.vision.images import ImageSet, read_images, readable
from equirl.experiments.vision.training import board, main_process_first, n_processes, train_images
from equirl.experiments.vision.zero_shot import Bridge, load_zero_shot, read_class_names
from equirl.files import load_weights, written_whole
from equirl.models.image_classifier import Classifier
from equirl.rotations import InterpolatedRotations, image_action, view_names

__all__ = ["Workbench", "is_interpolated", "workbench"]

_FEATURES = "features"  # give the folder another name when preprocessing or turning changes what it computes
_PRETRAIN_RATE = 1e-3


def is_interpolated(group: str) -> bool:
    """Return whether a group turns images with interpolation, so that it acts approximately."""
    return isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations)


@cache
def workbench(config: StudyConfig, seed: int) -> Workbench:
    """Return the workbench of a study and a seed, made once in each process."""
    return Workbench(config, seed)


class Workbench:
    """The images of a study, its network, and where the features are.

    Training images are drawn once, in an order that no seed changes. Those at one end prepare the network: they train
    its last layer or the small CNN, or they centre the bridge. Those at the other end have the labels from which λ, or
    the whole network, learns.

    Args:
        config: The study.
        seed: Seed of the small CNN; 0 for pretrained networks.

    Raises:
        ValueError: Something unknown, or too few images.
        CorruptImageError: An image cannot be read, and the study does not skip such images.
    """

    def __init__(self, config: StudyConfig, seed: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.seed = seed
        self._folder = config.cache or cache_folder() / _FEATURES
        self.left_out: list[str] = []
        train, test = self._read("train"), self._read("test")
        n_labels = max((variant.labels for variant in variants_of(config)), default=0)
        order = np.random.default_rng(0).permutation(len(train))
        asked = {"--labels": n_labels}
        if isinstance(config, FinetuneConfig):
            n_preparing = asked["--head-images"] = config.head_images
        else:
            n_preparing = min(config.centre_images, len(train))  # without labels, so they may overlap the others
        if sum(asked.values()) > len(train):
            needs = " and ".join(f"{n} for {option}" for option, n in asked.items())
            raise ValueError(f"{config.data} has {len(train)} images to learn from, too few: {needs}; ask for less")
        self._preparing = train.subset(order[:n_preparing])
        self.labelled = train.subset(order[::-1][:n_labels])
        n_test = min(config.test_images or len(test), len(test))
        self.test = test.subset(np.random.default_rng(0).permutation(len(test))[:n_test])
        self.classifier = self._prepared_classifier()
        self._digest = trunk_digest(self.classifier)

    @cached_property
    def key(self) -> str:
        """A digest of the network and the images."""
        total = hashlib.sha256(f"{self._digest} {self.test.key} {self.labelled.key}".encode())
        for name, value in self.classifier.classifier.state_dict().items():
            total.update(name.encode() + value.cpu().numpy().tobytes())
        return total.hexdigest()[:16]

    def turns(self, group: str) -> Tensor:
        """Return the group element that turns each test image at angle ``"uniform"``, ``[N]``."""
        order = len(view_names(group))
        return torch.from_numpy(np.random.default_rng(1).integers(order, size=len(self.test)))

    def any_degrees(self) -> np.ndarray:
        """Return the angle, from 0 to 360 degrees, that turns each test image at angle ``"any"``, ``[N]``."""
        return np.random.default_rng(2).uniform(0, 360, len(self.test))

    def test_source(self, group: str, angle: str) -> Source:
        """Return the test images upright, or turned: ``"0"``, ``"uniform"`` (over a group of turns) or ``"any"``."""
        if angle == "0":
            return Source(self.test)
        if angle == "any":
            return Source(self.test, self.any_degrees())
        return Source(self.test, 360 / len(view_names(group)) * self.turns(group).double().numpy())

    def labelled_source(self, group: str) -> Source:
        """Return the labelled images: turned by random elements of an interpolated group, and upright otherwise."""
        if not is_interpolated(group):
            return Source(self.labelled)
        order = len(view_names(group))
        turns = np.random.default_rng(3).integers(order, size=len(self.labelled))
        return Source(self.labelled, 360 / order * turns.astype(float))

    def labelled_rows(self, n: int, seed: int) -> np.ndarray:
        """Return the ``n`` labelled images from which a seed learns."""
        return np.random.default_rng(seed).permutation(len(self.labelled))[:n]

    def features(self, source: Source, group: str, part: str) -> ViewFeatures:
        """Return the features of all views of images; see ``ViewFeatures`` for the parts."""
        views = view_names(group)
        return ViewFeatures(self.classifier, source, views, part, self._folder, self.config.device, self._digest)

    def all_features(self, groups: Sequence[str], parts: Sequence[str]) -> list[ViewFeatures]:
        """Return all features that the variants of a study read."""
        found = []
        for group in groups:
            angles = [
                "0",
                *(["uniform"] if is_interpolated(group) else []),
                *(["any"] if self.config.any_angle else []),
            ]
            sources = [self.test_source(group, angle) for angle in angles]
            sources += [self.labelled_source(group)] if len(self.labelled) else []
            found += [self.features(source, group, part) for source in sources for part in parts]
        return found

    def _read(self, split: str) -> ImageSet:
        images, left_out = readable(load_images(self.config.data, split), self.config.on_corrupt, self._folder)
        if not len(images):
            raise ValueError(f"{self.config.data} has no {split} images")
        self.left_out += left_out
        return images

    def _prepared_classifier(self) -> Classifier:
        config, classes = self.config, self.test.classes
        if isinstance(config, ZeroShotConfig):
            names = read_class_names(config.class_names, classes)
            classifier = load_zero_shot(config.model, names, config.templates)
        else:
            classifier = load_backbone(config.model, len(classes), self.seed)
        if config.invert:
            invert(classifier)
        last = classifier.classifier
        if isinstance(last, Bridge):
            last.centre(self._upright_features(classifier))
        elif isinstance(config, FinetuneConfig) and config.model == "small-cnn":
            self._train_small(classifier, config)
        elif isinstance(last, LinearHead):
            last.fit(self._upright_features(classifier), self._preparing.labels)
        return classifier.cpu().eval()

    def _upright_features(self, classifier: Classifier) -> np.ndarray:
        features = ViewFeatures(classifier, Source(self._preparing), ("0",), "pooled", self._folder, self.config.device)
        with main_process_first(self.config.device):
            compute_missing([features], self.config.n_jobs)
        found: np.ndarray = features.load()[:, 0].numpy()
        return found

    def _train_small(self, classifier: Classifier, config: FinetuneConfig) -> None:
        """Train the small CNN on upright images, or read its weights if it has been trained before."""
        about = [self._preparing.key, config.pretrain_steps, config.batch_size, config.invert, config.mixed_precision]
        key = hashlib.sha256(f"{about} {n_processes()}".encode()).hexdigest()[:10]
        path = config.out / "models" / f"small-cnn-{self.seed}-{key}.pt"
        if path.exists():
            load_weights(classifier, path)
            return
        resume = path.with_suffix(".part")
        with board(config.out / "tb" / path.stem) as note:
            train_images(
                classifier,
                lambda rows: read_images(self._preparing, rows.tolist(), classifier.size),
                torch.from_numpy(self._preparing.labels),
                self.seed,
                config.pretrain_steps,
                _PRETRAIN_RATE,
                config.batch_size,
                progress=f"small CNN, seed {self.seed}",
                mixed_precision=config.mixed_precision,
                device=config.device,
                resume=resume,
                report=partial(note, "loss/train"),
            )
        classifier.cpu()
        with written_whole(path) as temporary:
            torch.save(classifier.state_dict(), temporary)
        resume.unlink(missing_ok=True)
