"""A network, its images and its features: all that the variants of one study share for one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from equirl.experiments.model_cache import cache_folder
from equirl.experiments.vision.board import board
from equirl.experiments.vision.classifiers import LinearHead, inverted, load_backbone, trunk_digest
from equirl.experiments.vision.config import FinetuneConfig, ZeroShotConfig, variants_of
from equirl.experiments.vision.image_sets import load_images
from equirl.experiments.vision.labelled_images import ImageSet
from equirl.experiments.vision.orbit_features import Source, ViewFeatures, compute_missing, read_images
from equirl.experiments.vision.processes import main_process_first, n_processes
from equirl.experiments.vision.readable import readable
from equirl.experiments.vision.training import train_images
from equirl.experiments.vision.zero_shot import Bridge, load_zero_shot, read_class_names
from equirl.files import load_weights, written_whole
from equirl.models.image_classifier import Classifier
from equirl.rotations import InterpolatedRotations, image_action, view_names

__all__ = ["Workbench"]

_FEATURES = "features"  # renamed where preprocessing or turning comes to compute something else
_PRETRAIN_RATE = 1e-3


class Workbench:
    """The images of a study, its network, and where the features are.

    Training images are drawn once and for all: from one end those that the network gets ready with (its last layer, the
    small CNN, the mean feature of the bridge), from the other those whose labels λ, or the whole network, learns from.

    Args:
        config: The study.
        seed: Of the small CNN; pretrained networks have none.

    Raises:
        ValueError: Something unknown, or too few images.
        CorruptImageError: An image cannot be read, and is not to be skipped.
    """

    def __init__(self, config: ZeroShotConfig | FinetuneConfig, seed: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.seed = seed if config.model == "small-cnn" else 0
        self._folder = config.cache or cache_folder() / _FEATURES
        self.left_out: list[str] = []
        train, test = self._read("train"), self._read("test")
        n_labels = max((variant.labels for variant in variants_of(config)), default=0)
        order = np.random.default_rng(0).permutation(len(train))
        asked = {"--labels": n_labels}
        if isinstance(config, FinetuneConfig):
            n_ready = asked["--head-images"] = config.head_images
        else:
            n_ready = min(config.centre_images, len(train))  # without labels, so they may be the same
        if sum(asked.values()) > len(train):
            needs = " and ".join(f"{n} for {option}" for option, n in asked.items())
            raise ValueError(f"{config.data} has {len(train)} images to learn from, too few: {needs}; ask for less")
        self._ready = train.subset(order[:n_ready])
        self.labelled = train.subset(order[::-1][:n_labels])
        n_test = min(config.test_images or len(test), len(test))
        self.test = test.subset(np.random.default_rng(0).permutation(len(test))[:n_test])
        self.classifier = self._made()
        self._digest = trunk_digest(self.classifier)

    def _read(self, part: str) -> ImageSet:
        images, left_out = readable(load_images(self.config.data, part), self.config.on_corrupt, self._folder)
        if not len(images):
            raise ValueError(f"{self.config.data} has no {part} images")
        self.left_out += left_out
        return images

    @cached_property
    def key(self) -> str:
        """A digest of the network, the images, and which of them are turned how."""
        total = hashlib.sha256(f"{self._digest} {self.test.key} {self.labelled.key}".encode())
        for name, value in self.classifier.classifier.state_dict().items():
            total.update(name.encode() + value.cpu().numpy().tobytes())
        return total.hexdigest()[:16]

    def turns(self, group: str) -> Tensor:
        """Return the elements by which test images are turned where angles are uniform over the group, ``[N]``."""
        order = image_action(group, (1, 1, 1)).group.order
        return torch.from_numpy(np.random.default_rng(1).integers(order, size=len(self.test)))

    def any_degrees(self) -> np.ndarray:
        """Return the angles, from 0 to 360 degrees, by which test images are turned at angle ``"any"``, ``[N]``."""
        return np.random.default_rng(2).uniform(0, 360, len(self.test))

    def labels_of(self, images: ImageSet) -> Tensor:
        """Return the labels of images, ``[N]``."""
        return torch.from_numpy(images.labels)

    def test_source(self, group: str, angle: str) -> Source:
        """Return the test images upright, or turned: ``"0"``, ``"uniform"`` (over a group of turns) or ``"any"``."""
        if angle == "0":
            return Source(self.test)
        if angle == "any":
            return Source(self.test, self.any_degrees())
        order = image_action(group, (1, 1, 1)).group.order
        return Source(self.test, 360 / order * self.turns(group).double().numpy())

    def labelled_source(self, group: str) -> Source:
        """Return the labelled images: upright, and turned by random elements where the group acts approximately."""
        if not isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations):
            return Source(self.labelled)
        order = image_action(group, (1, 1, 1)).group.order
        turns = np.random.default_rng(3).integers(order, size=len(self.labelled))
        return Source(self.labelled, 360 / order * turns.astype(float))

    def labelled_rows(self, n: int, seed: int) -> np.ndarray:
        """Return which labelled images a seed learns from, where there are but ``n`` labels."""
        return np.random.default_rng(seed).permutation(len(self.labelled))[:n]

    def features(self, source: Source, group: str, part: str) -> ViewFeatures:
        """Return where the features of all views of images are; see ``ViewFeatures``."""
        views = view_names(group)
        return ViewFeatures(self.classifier, source, views, part, self._folder, self.config.device, self._digest)

    def all_features(self, groups: Sequence[str], parts: Sequence[str]) -> list[ViewFeatures]:
        """Return all that the variants of a study read."""
        found = []
        for group in groups:
            exact = not isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations)
            angles = ["0", *([] if exact else ["uniform"]), *(["any"] if self.config.any_angle else [])]
            sources = [self.test_source(group, angle) for angle in angles]
            sources += [self.labelled_source(group)] if len(self.labelled) else []
            found += [self.features(source, group, part) for source in sources for part in parts]
        return found

    def _made(self) -> Classifier:
        config = self.config
        classes = self.test.classes
        if isinstance(config, ZeroShotConfig):
            names = read_class_names(config.class_names, classes)
            classifier = load_zero_shot(config.model, names, config.templates)
        else:
            classifier = load_backbone(config.model, len(classes), self.seed)
        if config.invert:
            inverted(classifier)
        last = classifier.classifier
        if isinstance(last, Bridge):
            last.centre(self._upright(classifier))
        elif isinstance(config, FinetuneConfig) and config.model == "small-cnn":
            self._train_small(classifier, config)
        elif isinstance(last, LinearHead):
            last.fit(self._upright(classifier), self._ready.labels)
        return classifier.cpu().eval()

    def _upright(self, classifier: Classifier) -> np.ndarray:
        features = ViewFeatures(classifier, Source(self._ready), ("0",), "pooled", self._folder, self.config.device)
        with main_process_first(self.config.device):
            compute_missing([features], self.config.n_jobs)
        found: np.ndarray = features.load()[:, 0].numpy()
        return found

    def _train_small(self, classifier: Classifier, config: FinetuneConfig) -> None:
        """Train the small CNN on upright images, or read what was trained before."""
        about = [self._ready.key, config.pretrain_steps, config.batch_size, config.invert, config.mixed_precision]
        key = hashlib.sha256(f"{about} {n_processes()}".encode()).hexdigest()[:10]
        path = config.out / "models" / f"small-cnn-{self.seed}-{key}.pt"
        if path.exists():
            load_weights(classifier, path)
            return
        resume = path.with_suffix(".part")
        with board(config.out / "tb" / path.stem) as note:
            train_images(
                classifier,
                lambda rows: read_images(self._ready, rows.tolist(), classifier.size),
                self.labels_of(self._ready),
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
