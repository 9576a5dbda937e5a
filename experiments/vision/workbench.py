"""What the runs of a study share: images, network and features; and the symmetrized network of each run."""

from __future__ import annotations

import copy
import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.experiments.optional import cache_folder
from equirl.experiments.vision.classifiers import (
    Bridge,
    LinearHead,
    invert,
    load_backbone,
    load_zero_shot,
    read_class_names,
)
from equirl.experiments.vision.config import (
    FinetuneConfig,
    StudyConfig,
    Variant,
    ZeroShotConfig,
    proxy_loss_of,
    variants_of,
)
from equirl.experiments.vision.features import ViewFeatures, compute_missing, trunk_digest
from equirl.experiments.vision.image_sets import load_images
from equirl.experiments.vision.images import ImageSet, readable
from equirl.experiments.vision.training import board, main_process_first, n_processes, train_or_read
from equirl.files import load_weights, written_whole
from equirl.models.image_classifier import Classifier
from equirl.models.image_fit import fit_lambda
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.rotations import InterpolatedRotations, image_action, view_names
from equirl.seeded import seeded

__all__ = ["Images", "Job", "Workbench", "draw_images", "fitted_model", "is_interpolated", "small_cnn_file"]
__all__ += ["trained_network", "workbench"]

_PRETRAIN_RATE = 1e-3


def is_interpolated(group: str) -> bool:
    """Return whether a group turns images with interpolation, so that it acts approximately."""
    return isinstance(image_action(group, (1, 1, 1)), InterpolatedRotations)


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
        total = hashlib.sha256(f"{self._digest} {self.images.test.key} {self.images.labelled.key}".encode())
        for name, value in self.classifier.classifier.state_dict().items():
            total.update(name.encode() + value.cpu().numpy().tobytes())
        self.key = total.hexdigest()[:16]

    def turns(self, group: str) -> Tensor:
        """Return the group element that turns each test image at angle ``"uniform"``, ``[N]``."""
        return torch.from_numpy(_random_elements(group, 1, self.images.test))

    def any_degrees(self) -> np.ndarray:
        """Return the angle, from 0 to 360 degrees, that turns each test image at angle ``"any"``, ``[N]``."""
        return np.random.default_rng(2).uniform(0, 360, len(self.images.test))

    def features(self, group: str, part: str, images: str) -> ViewFeatures:
        """Return the features of all views of some images; see ``ViewFeatures`` for the parts.

        The images are the test images at the angle ``"0"``, ``"uniform"`` or ``"any"``, or the ``"labelled"`` ones,
        which an interpolated group turns by random elements.
        """
        some = self.images.labelled if images == "labelled" else self.images.test
        degrees = None
        if images == "any":
            degrees = self.any_degrees()
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
        if isinstance(last, Bridge):
            last.centre(self._upright_features(classifier))
        elif isinstance(config, FinetuneConfig) and config.model == "small-cnn":
            settings: dict[str, Any] = {"seed": seed, "steps": config.pretrain_steps, "learning_rate": _PRETRAIN_RATE}
            path = small_cnn_file(config, seed).with_suffix(".pt")
            train_or_read(classifier, path, config, self.images.preparing, classifier.size, settings)
        elif isinstance(last, LinearHead):
            last.fit(self._upright_features(classifier), self.images.preparing.labels)
        return classifier.cpu().eval()

    def _upright_features(self, classifier: Classifier) -> np.ndarray:
        folder, device = _folder(self.config), self.config.device
        features = ViewFeatures(classifier, self.images.preparing, ("0",), "pooled", folder, device)
        with main_process_first(device):
            compute_missing([features], self.config.n_jobs)
        found: np.ndarray = features.load()[:, 0].numpy()
        return found


def _folder(config: StudyConfig) -> Path:
    # Give the folder another name when preprocessing or turning changes what it computes.
    return config.cache or cache_folder() / "features"


def _random_elements(group: str, seed: int, images: ImageSet) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(view_names(group)), size=len(images))


class Job(NamedTuple):
    """One run: a variant of a study, and the seed of all training."""

    config: StudyConfig
    variant: Variant
    seed: int

    @property
    def bench(self) -> Workbench:
        """The workbench, made once in each process."""
        return workbench(self.config, self.seed if self.config.model == "small-cnn" else 0)

    def file(self, kind: str) -> Path:
        """Return the CSV of one kind of its results; its name holds a digest of all settings that change them."""
        config, decisive = self.config, [self.bench.key, *self.variant, self.config.any_angle]
        if self.variant.trained == "whole" and isinstance(config, FinetuneConfig):
            decisive += [config.whole_steps, config.learning_rate, config.batch_size, config.accumulate]
            decisive += [config.mixed_precision, n_processes()]
        return config.run_file(f"{kind}-{self.variant.name}-{self.seed}", *decisive)


def fitted_model(job: Job) -> SymmetrizedClassifier:
    """Return the symmetrized network; λ is fitted, or read if it has been fitted before."""
    variant, bench, learned = job.variant, job.bench, job.variant.method == "lambda_equitune"
    proxy_loss = proxy_loss_of(variant.kind) if variant.method == "equizero" else "similarity"
    kind, reads = (variant.kind, variant.reads) if learned else ("two-layer", "features")
    with seeded(job.seed):
        length = bench.classifier.pooled_length()
        aggregator = make_image_aggregator(variant.method, length, proxy_loss, kind, reads)
    model = SymmetrizedClassifier(bench.classifier, variant.group, aggregator, variant.level, reads).eval()
    if not learned:
        return model
    path = job._replace(variant=variant._replace(trained="lambda")).file("lambda").with_suffix(".pt")
    if path.exists():
        load_weights(aggregator, path)
        return model
    rows = bench.labelled_rows(variant.labels, job.seed)
    views = {part: bench.features(variant.group, part, "labelled").load(rows) for part in model.parts}
    labels = torch.from_numpy(bench.images.labelled.labels)[rows]
    with board(job.config.out / "tb" / path.stem) as note:

        def report(epoch: int, train: float, held_out: float) -> None:
            note("lambda/train", epoch, train)
            note("lambda/held_out", epoch, held_out)

        fit_lambda(model, views, labels, job.seed, report=report)
    with written_whole(path) as temporary:
        torch.save(aggregator.state_dict(), temporary)
    return model


def trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it; or read it."""
    config, variant, bench = job.config, job.variant, job.bench
    assert isinstance(config, FinetuneConfig)
    network = copy.deepcopy(bench.classifier)
    model: nn.Module = network
    if variant.method != "plain":
        fitted = fitted_model(job)
        aggregator = copy.deepcopy(fitted.aggregator)
        model = SymmetrizedClassifier(network, variant.group, aggregator, variant.level, fitted.reads)
    images = bench.images.labelled.subset(bench.labelled_rows(variant.labels, job.seed))
    action = image_action(variant.group, (3, network.size, network.size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        elements = torch.randint(action.group.order, (len(some),), generator=generator)
        return cast(Tensor, action.transform(elements, some))

    settings: dict[str, Any] = {"seed": job.seed, "steps": config.whole_steps, "learning_rate": config.learning_rate}
    settings |= {"accumulate": config.accumulate, "turned": turned}
    train_or_read(model, job.file("network").with_suffix(".pt"), config, images, network.size, settings)
    return model
