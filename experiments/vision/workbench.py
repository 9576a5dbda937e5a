"""A network, its images and its features: all that the variants of one study share for one seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from equirl.agents.files import written_whole
from equirl.experiments.model_cache import cache_folder
from equirl.experiments.vision.classifiers import Classifier, LinearHead, inverted, load_backbone
from equirl.experiments.vision.config import FinetuneConfig, ZeroShotConfig
from equirl.experiments.vision.image_sets import ImageSet, load_images
from equirl.experiments.vision.orbit_features import Source, ViewFeatures, compute_missing, read_images, readable
from equirl.experiments.vision.processes import main_process_first
from equirl.experiments.vision.rotations import InterpolatedRotations, image_action, view_names
from equirl.experiments.vision.training import train_images
from equirl.experiments.vision.zero_shot import Bridge, load_zero_shot, read_class_names

__all__ = ["Workbench", "say_in"]


class Workbench:
    """The images of a study, its network, and where the features are.

    Training images are drawn once and for all: first those with labels for λ, then, others, those for the last layer.

    Args:
        config: The study.
        seed: Of the small CNN; pretrained networks have none.

    Raises:
        ValueError: Something unknown, or too few images.
    """

    def __init__(self, config: ZeroShotConfig | FinetuneConfig, seed: int) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.seed = seed if config.model == "small-cnn" else 0
        train, test = (readable(load_images(config.data, part), config.on_corrupt) for part in ("train", "test"))
        n_labels = max(config.labels)
        n_head = config.head_images if isinstance(config, FinetuneConfig) else 0
        if n_labels + n_head > len(train):
            asked = f"{n_labels} for --labels" + (f" and {n_head} for --head-images" if n_head else "")
            raise ValueError(f"{config.data} has {len(train)} images to learn from, too few: {asked}; ask for less")
        order = np.random.default_rng(0).permutation(len(train))
        self.labelled = train.subset(order[:n_labels])
        self._of_head = train.subset(order[n_labels : n_labels + n_head])
        n_test = min(config.test_images or len(test), len(test))
        self.test = test.subset(np.random.default_rng(0).permutation(len(test))[:n_test])
        self._folder = config.cache or cache_folder() / "features"
        self.classifier = self._made()

    @cached_property
    def key(self) -> str:
        """A digest of the network, the images, and which of them are turned how."""
        total = hashlib.sha256(f"{self.classifier.trunk_digest()} {self.test.key} {self.labelled.key}".encode())
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

    def features(self, source: Source, group: str, part: str) -> ViewFeatures:
        """Return where the features of all views of images are; see ``ViewFeatures``."""
        views = view_names(group)
        return ViewFeatures(self.classifier, source, views, part, self._folder, self.config.device)

    def all_features(self, groups: Sequence[str], parts: Sequence[str]) -> list[ViewFeatures]:
        """Return all that the variants of a study read."""
        found = []
        for group in groups:
            exact = not isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations)
            angles = ["0", *([] if exact else ["uniform"]), *(["any"] if self.config.any_angle else [])]
            sources = [Source(self.labelled), *(self.test_source(group, angle) for angle in angles)]
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
            last.centre(self._upright(classifier, self.labelled))
        elif isinstance(config, FinetuneConfig) and config.model == "small-cnn":
            self._train_small(classifier, config)
        elif isinstance(last, LinearHead):
            last.fit(self._upright(classifier, self._of_head), self._of_head.labels)
        return classifier.cpu().eval()

    def _upright(self, classifier: Classifier, images: ImageSet) -> np.ndarray:
        features = ViewFeatures(classifier, Source(images), ("0",), "pooled", self._folder, self.config.device)
        with main_process_first(self.config.device):
            compute_missing([features], self.config.n_jobs)
        found: np.ndarray = features.load()[:, 0].numpy()
        return found

    def _train_small(self, classifier: Classifier, config: FinetuneConfig) -> None:
        """Train the small CNN on upright images, or read what was trained before."""
        about = f"{self._of_head.key} {config.pretrain_steps} {config.batch_size} {config.invert}"
        key = hashlib.sha256(about.encode()).hexdigest()[:10]
        path = config.out / "models" / f"small-cnn-{self.seed}-{key}.pt"
        if path.exists():
            classifier.load_state_dict(torch.load(path, weights_only=True))
            return
        rows = range(len(self._of_head))
        pixels = read_images(self._of_head, rows, classifier.size)
        resume = path.with_suffix(".part")
        with SummaryWriter(str(config.out / "tb" / path.stem)) as writer:
            train_images(
                classifier,
                pixels.__getitem__,
                self.labels_of(self._of_head),
                self.seed,
                config.pretrain_steps,
                1e-3,
                config.batch_size,
                progress=f"small CNN, seed {self.seed}",
                device=config.device,
                resume=resume,
                report=say_in(writer, "loss/train"),
            )
        classifier.cpu()
        with written_whole(path) as temporary:
            torch.save(classifier.state_dict(), temporary)
        resume.unlink(missing_ok=True)


def say_in(writer: SummaryWriter, name: str) -> Callable[[int, float], None]:
    """Return a report ``(step, value)`` to TensorBoard."""

    def report(step: int, value: float) -> None:
        writer.add_scalar(name, value, step)

    return report
