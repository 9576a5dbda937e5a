"""``equirl vision zero-shot`` and ``finetune``: accuracies at every angle, weights of the views, and reliability."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.agents.cli.option_checks import check_output_folder
from equirl.aggregators import Select
from equirl.experiments.study import Stage, Study
from equirl.experiments.tables import Rows
from equirl.experiments.vision.config import FinetuneConfig, StudyConfig, Variant, proxy_loss_of, variants_of
from equirl.experiments.vision.image_sets import read_images
from equirl.experiments.vision.report import report_study
from equirl.experiments.vision.training import board, join_processes, n_processes, train_or_read
from equirl.experiments.vision.workbench import (
    PIECE,
    Workbench,
    draw_images,
    is_interpolated,
    small_cnn_file,
    workbench,
)
from equirl.files import load_weights, written_whole
from equirl.models.image_fit import fit_lambda
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.optional import VISION as EXTRA
from equirl.optional import needed
from equirl.orbit import Orbit
from equirl.rotations import InterpolatedRotations, image_action, view_names
from equirl.seeded import seeded

__all__ = ["VISION", "take_views", "train_along"]

_ABOUT = (*Variant._fields, "seed")
_COLUMNS = {
    "study": (
        *("method", "group", "angle", "accuracy", "n", "seed"),
        *("level", "kind", "reads", "trained", "labels", "same"),
    ),
    "weights": (*_ABOUT, "view", "mean", "low", "median", "high", "largest", "n"),
    "reliability": (*_ABOUT, "tenth", "margin_low", "margin_high", "upright", "accuracy", "n"),
    "errors": ("group", "n", "mean", "largest"),
}
_BATCH_SIZE = 32
_ERROR_IMAGES = 16


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


def _check(config: StudyConfig) -> None:
    """Check what depends on this machine, meet the other processes, and read the images."""
    for name in config.proxy_loss:
        proxy_loss_of(name)
    if config.cache is not None:
        check_output_folder(config.cache, "--cache")
    if config.cluster is not None and n_processes() > 1:
        raise ValueError("several processes that train together cannot give their runs to a --cluster")
    join_processes(config.device)
    if isinstance(config, FinetuneConfig) and (config.model == "small-cnn" or config.whole_steps):
        needed("accelerate", EXTRA)
    for message in draw_images(config).left_out:
        print(f"left out: {message}")


def _small_cnns(config: StudyConfig) -> range:
    """Return the seeds of the small CNNs, which are trained before all else."""
    return range(config.seeds if isinstance(config, FinetuneConfig) and config.model == "small-cnn" else 0)


def _jobs(config: StudyConfig) -> list[Job]:
    return [
        Job(config, variant, seed)
        for variant in variants_of(config)
        for seed in range(config.seeds if variant.trained != "nothing" or config.model == "small-cnn" else 1)
    ]


def _stages(config: StudyConfig) -> list[Stage[Any]]:
    def stage(kind: str, jobs: list[Job], run: Callable[[Job], Rows], **order: Any) -> Stage[Any]:
        return Stage(jobs, run, partial(Job.file, kind=kind), _COLUMNS[kind], table=f"{kind}.csv", **order)

    jobs = _jobs(config)
    in_turn = sorted(jobs, key=lambda job: job.variant.trained == "whole")  # these begin with the λ that others fit
    chosen = [job for job in jobs if job.variant.trained == "nothing" and job.variant.method == "equizero"]
    weighed = [job for job in jobs if job.variant.trained == "lambda" or job in chosen]
    errors = [Job(config, Variant("-", group), 0) for group in dict.fromkeys(config.group) if is_interpolated(group)]
    train, file = partial(_train_small, config), partial(small_cnn_file, cast(FinetuneConfig, config))
    return [
        Stage(_small_cnns(config), train, file, ("seed",), table=None, leaves=(".pt",)),
        stage("study", in_turn, _accuracy, order=jobs.index),
        stage("weights", weighed, _weights),
        stage("reliability", chosen, _reliability),
        stage("errors", errors, _errors),
    ]


def train_along(config: StudyConfig) -> None:
    """Do the part of a process that is not the main one: train every network together with the others."""
    _check(config)
    for seed in _small_cnns(config):
        _train_small(config, seed)
    for job in _jobs(config):
        path = job.file("study")  # this makes the workbench, for whose features the processes wait
        if job.variant.trained == "whole" and not path.exists():
            _trained_network(job)


def _train_small(config: StudyConfig, seed: int) -> Rows:
    Workbench(config, seed)
    return [(seed,)]


def _fitted_model(job: Job) -> SymmetrizedClassifier:
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


def _trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it; or read it."""
    config, variant, bench = cast(FinetuneConfig, job.config), job.variant, job.bench
    model: nn.Module = copy.deepcopy(bench.classifier if variant.method == "plain" else _fitted_model(job))
    images = bench.images.labelled.subset(bench.labelled_rows(variant.labels, job.seed))
    size = bench.classifier.size
    action = image_action(variant.group, (3, size, size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        elements = torch.randint(action.group.order, (len(some),), generator=generator)
        return cast(Tensor, action.transform(elements, some))

    settings = {"seed": job.seed, "steps": config.whole_steps, "learning_rate": config.learning_rate}
    path = job.file("network").with_suffix(".pt")
    train_or_read(model, path, config, images, size, **settings, accumulate=config.accumulate, turned=turned)
    return model


def _accuracy(job: Job) -> Rows:
    """Return the accuracy on the test images at each angle, upright first, and the share of unchanged answers.

    At angle ``"uniform"`` each image is turned by a random element of the group, at ``"any"`` by a random angle. An
    answer is unchanged (``same``) if it is the one that the upright image gets.
    """
    method, group, *about = job.variant
    labels = torch.from_numpy(job.bench.images.test.labels)
    found = dict(_answers(job))
    rows = []
    for angle, answers in found.items():
        accuracy, same = (_rounded((answers == others).double().mean()) for others in (labels, found["0"]))
        rows.append((method, group, angle, accuracy, len(labels), job.seed, *about, same))
    return rows


@torch.no_grad()
def _weights(job: Job) -> Rows:
    """Return how λ, or equizero's choice, weighs each view of all upright test images."""
    model = _fitted_model(job)
    weights = torch.cat([model.aggregator.weights(orbit) for _, orbit in _orbits(job.bench, model, "0")])
    largest = weights.argmax(dim=1)
    rows = []
    for g, view in enumerate(view_names(job.variant.group)):
        values = weights[:, g].double()
        spread = (values.mean(), *(values.quantile(q) for q in (0.05, 0.5, 0.95)), (largest == g).double().mean())
        rows.append((*job.variant, job.seed, view, *map(_rounded, spread), len(values)))
    return rows


@torch.no_grad()
def _reliability(job: Job) -> Rows:
    """Return how often equizero chooses the upright view, and is right, by tenths of the upright test images.

    The tenths are ordered by the margin, the difference of the two least proxy losses.
    """
    bench, model = job.bench, _fitted_model(job)
    labels = torch.from_numpy(bench.images.test.labels)
    parts = []
    for rows, orbit in _orbits(bench, model, "0"):
        least = cast(Select, model.aggregator).proxy_loss(orbit).sort(dim=1).values
        upright = model.aggregator.weights(orbit)[:, 0]  # a tie counts in part
        parts.append((least[:, 1] - least[:, 0], upright, model.logits_of_orbit(orbit).argmax(dim=1) == labels[rows]))
    margin, is_upright, is_right = map(torch.cat, zip(*parts, strict=True))
    found = []
    for tenth, some in enumerate(np.array_split(margin.argsort().numpy(), 10)):
        if len(some):
            shares = (is_upright[some].double().mean(), is_right[some].double().mean())
            numbers = map(_rounded, (margin[some].min(), margin[some].max(), *shares))
            found.append((*job.variant, job.seed, tenth + 1, *numbers, len(some)))
    return found


@torch.no_grad()
def _errors(job: Job) -> Rows:
    """Return how far the rotations of an interpolated group are from a group, on some test images."""
    group, size, test = job.variant.group, job.bench.classifier.size, job.bench.images.test
    action = cast(InterpolatedRotations, image_action(group, (3, size, size)))
    images = read_images(test, range(min(_ERROR_IMAGES, len(test))), size)
    errors = torch.cat([action.homomorphism_errors(image.unsqueeze(0)) for image in images])
    return [(group, len(images), round(float(errors.mean()), 4), round(float(errors.max()), 4))]


def _rounded(value: Tensor) -> float:
    return round(float(value), 6)


@torch.no_grad()
def _answers(job: Job) -> Iterator[tuple[str, Tensor]]:
    """Yield angles, upright first, and the network's class for each test image turned so, ``[N]``."""
    bench, group, plain = job.bench, job.variant.group, job.variant.method == "plain"
    if job.variant.trained == "whole":
        answers = _of_trained(bench, group, _trained_network(job))
    else:
        answers = _of_plain(bench, group) if plain else _of_symmetrized(bench, _fitted_model(job))
    turns = bench.turns(group)
    upright = torch.zeros_like(turns)
    if plain or not is_interpolated(group):
        for g, view in enumerate(view_names(group)):
            yield view, answers("0", upright + g)
        yield "uniform", answers("0", turns)
    else:  # the orbit of a turned image holds other views
        for angle in ("0", "uniform"):
            yield angle, answers(angle, upright)
    if bench.config.any_angle:
        yield "any", answers("any", upright)


_Answers = Callable[[str, Tensor], Tensor]
"""Test images at an angle, see ``Workbench.features``, and elements that turn them further: the classes, ``[N]``."""


def _of_plain(bench: Workbench, group: str) -> _Answers:
    @cache
    def to_all_views(angle: str) -> Tensor:
        pieces = bench.features(group, "pooled", angle).pieces()
        return torch.cat([bench.classifier.classifier(piece).argmax(dim=2) for _, piece in pieces])

    return lambda angle, turns: to_all_views(angle)[torch.arange(len(turns)), turns]


def _of_symmetrized(bench: Workbench, model: SymmetrizedClassifier) -> _Answers:
    def answers(angle: str, turns: Tensor) -> Tensor:
        orbits = _orbits(bench, model, angle, model.images.group.cayley.cpu()[:, turns].T)
        return torch.cat([model.logits_of_orbit(orbit).argmax(dim=1) for _, orbit in orbits])

    return answers


def _of_trained(bench: Workbench, group: str, model: nn.Module) -> _Answers:
    device = next(model.parameters()).device
    action = image_action(group, (3, bench.classifier.size, bench.classifier.size))

    def answers(angle: str, turns: Tensor) -> Tensor:
        features, found = bench.features(group, "pooled", angle), []
        for at in range(0, len(turns), PIECE):
            images = features.read(range(at, min(at + PIECE, len(turns))))
            moved = cast(Tensor, action.transform(turns[at : at + PIECE], images))
            found += [model(some.to(device)).argmax(dim=1).cpu() for some in torch.split(moved, _BATCH_SIZE)]
        return torch.cat(found)

    return answers


def _orbits(
    bench: Workbench, model: SymmetrizedClassifier, angle: str, elements: Tensor | None = None
) -> Iterator[tuple[slice, Orbit]]:
    """Yield rows of test images and their orbits, from features on disk; ``elements [N, |G|]`` orders the views."""
    pieces = [bench.features(model.group, part, angle).pieces() for part in model.parts]
    for found in zip(*pieces, strict=True):
        rows = found[0][0]
        views = {part: features for part, (_, features) in zip(model.parts, found, strict=True)}
        if elements is not None:
            views = {part: take_views(features, elements[rows]) for part, features in views.items()}
        yield rows, model.orbit(**views)


def take_views(features: Tensor, elements: Tensor) -> Tensor:
    """Return the views ``elements [N, |G|]`` of features ``[N, |G|, ...]``."""
    return features[torch.arange(len(features)).unsqueeze(1), elements]


VISION: Study[StudyConfig] = Study(_stages, lambda config: report_study(config.out, config.method), _check)
"""``equirl vision zero-shot`` and ``finetune``; curves for TensorBoard are in ``tb/``."""
