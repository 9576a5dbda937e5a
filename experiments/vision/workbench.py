"""The workbench of a study, its network, images and features, and the symmetrized networks of its single runs."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator
from equirl.experiments.optional import cache_folder
from equirl.experiments.runs import run_file
from equirl.experiments.vision.classifiers import LinearHead, invert, load_backbone
from equirl.experiments.vision.config import (
    FinetuneConfig,
    StudyConfig,
    Variant,
    ZeroShotConfig,
    proxy_loss_of,
    variants_of,
)
from equirl.experiments.vision.features import Source, ViewFeatures, compute_missing, trunk_digest
from equirl.experiments.vision.image_sets import load_images
from equirl.experiments.vision.images import ImageSet, read_images, readable
from equirl.experiments.vision.training import board, main_process_first, n_processes, train_or_read
from equirl.experiments.vision.zero_shot import Bridge, load_zero_shot, read_class_names
from equirl.files import load_weights, written_whole
from equirl.models.image_classifier import Classifier
from equirl.models.image_fit import fit_lambda
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.rotations import InterpolatedRotations, image_action, view_names
from equirl.seeded import seeded

__all__ = ["Job", "Workbench", "fitted_model", "is_interpolated", "trained_network", "workbench"]

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
        return torch.from_numpy(_random_elements(group, 1, self.test))

    def any_degrees(self) -> np.ndarray:
        """Return the angle, from 0 to 360 degrees, that turns each test image at angle ``"any"``, ``[N]``."""
        return np.random.default_rng(2).uniform(0, 360, len(self.test))

    def test_source(self, group: str, angle: str) -> Source:
        """Return the test images upright, or turned: ``"0"``, ``"uniform"`` (over a group of turns) or ``"any"``."""
        if angle == "any":
            return Source(self.test, self.any_degrees())
        return Source(self.test, None if angle == "0" else _degrees(group, _random_elements(group, 1, self.test)))

    def labelled_source(self, group: str) -> Source:
        """Return the labelled images: turned by random elements of an interpolated group, and upright otherwise."""
        turned = is_interpolated(group)
        return Source(self.labelled, _degrees(group, _random_elements(group, 3, self.labelled)) if turned else None)

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
        train_or_read(
            classifier,
            path,
            config.out / "tb" / path.stem,
            "loss/train",
            read=lambda rows: read_images(self._preparing, rows.tolist(), classifier.size),
            labels=torch.from_numpy(self._preparing.labels),
            seed=self.seed,
            steps=config.pretrain_steps,
            learning_rate=_PRETRAIN_RATE,
            batch_size=config.batch_size,
            progress=f"small CNN, seed {self.seed}",
            mixed_precision=config.mixed_precision,
            device=config.device,
        )


def _random_elements(group: str, seed: int, images: ImageSet) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(view_names(group)), size=len(images))


def _degrees(group: str, elements: np.ndarray) -> np.ndarray:
    """Return the angles of the elements of a group of turns."""
    return 360 / len(view_names(group)) * elements.astype(float)


class Job(NamedTuple):
    """One run.

    Attributes:
        config: The study.
        variant: The method, and the part of it that is trained.
        seed: Seed of all training.
        key: Key of the workbench, which stands for the network and the images.
    """

    config: StudyConfig
    variant: Variant
    seed: int
    key: str

    @property
    def bench(self) -> Workbench:
        """The workbench, made once in each process."""
        return workbench(self.config, self.seed if self.config.model == "small-cnn" else 0)

    @property
    def name(self) -> str:
        """Name of the variant and the seed, for files and curves."""
        return f"{self.variant.name}-{self.seed}"

    def file(self, kind: str) -> Path:
        """Return the file of one kind of its results; its name holds a digest of all settings that change them."""
        decisive: list[Any] = [self.key, vars(self.variant), self.config.any_angle]
        if self.variant.trained == "whole" and isinstance(self.config, FinetuneConfig):
            config = self.config
            decisive.append([config.whole_steps, config.learning_rate, config.batch_size, config.accumulate])
            decisive.append([config.mixed_precision, n_processes()])
        return run_file(self.config.out, f"{kind}-{self.name}", decisive)


def fitted_model(job: Job) -> SymmetrizedClassifier:
    """Return the symmetrized network; λ is fitted, or read if it has been fitted before."""
    variant, bench = job.variant, job.bench
    aggregator = _aggregator(variant, bench.classifier.pooled_length(), job.seed)
    reads = variant.reads if variant.method == "lambda_equitune" else "features"
    model = SymmetrizedClassifier(bench.classifier, variant.group, aggregator, variant.level, reads).eval()
    if variant.method != "lambda_equitune":
        return model
    frozen = replace(variant, trained="lambda")
    path = run_file(job.config.out, f"lambda-{frozen.name}-{job.seed}", [job.key, vars(frozen)]).with_suffix(".pt")
    if path.exists():
        load_weights(aggregator, path)
        return model
    rows, source = bench.labelled_rows(variant.labels, job.seed), bench.labelled_source(variant.group)
    views = {part: bench.features(source, variant.group, part).load(rows) for part in model.parts}
    labels = torch.from_numpy(bench.labelled.labels)[rows]
    with board(job.config.out / "tb" / job.name) as note:

        def report(epoch: int, train: float, held_out: float) -> None:
            note("lambda/train", epoch, train)
            note("lambda/held_out", epoch, held_out)

        fit_lambda(model, views, labels, job.seed, report=report)
    with written_whole(path) as temporary:
        torch.save(aggregator.state_dict(), temporary)
    return model


def trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it.

    An earlier training's result is read, and a training that was stopped continues.
    """
    config, variant, bench = job.config, job.variant, job.bench
    assert isinstance(config, FinetuneConfig)
    network = copy.deepcopy(bench.classifier)
    model: nn.Module = network
    if variant.method != "plain":
        fitted = fitted_model(job)
        aggregator = copy.deepcopy(fitted.aggregator)
        model = SymmetrizedClassifier(network, variant.group, aggregator, variant.level, fitted.reads)
    images = bench.labelled.subset(bench.labelled_rows(variant.labels, job.seed))
    action = image_action(variant.group, (3, network.size, network.size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        elements = torch.randint(action.group.order, (len(some),), generator=generator)
        return cast(Tensor, action.transform(elements, some))

    train_or_read(
        model,
        job.file("network").with_suffix(".pt"),
        config.out / "tb" / job.name,
        "whole/train",
        read=lambda rows: read_images(images, rows.tolist(), network.size),
        labels=torch.from_numpy(images.labels),
        seed=job.seed,
        steps=config.whole_steps,
        learning_rate=config.learning_rate,
        batch_size=config.batch_size,
        accumulate=config.accumulate,
        turned=turned,
        progress=f"{variant.name}, seed {job.seed}",
        mixed_precision=config.mixed_precision,
        device=config.device,
    )
    return model


def _aggregator(variant: Variant, inputs: int, seed: int) -> Aggregator:
    if variant.method == "equizero":
        return make_image_aggregator("equizero", inputs, proxy_loss_of(variant.kind))
    if variant.method == "lambda_equitune":
        with seeded(seed):
            return make_image_aggregator("lambda_equitune", inputs, lambda_network=variant.kind, reads=variant.reads)
    return make_image_aggregator(variant.method, inputs)
