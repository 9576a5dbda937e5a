"""``equirl vision zero-shot`` and ``finetune``: accuracies at every angle, weights of the views, and reliability."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from equirl.aggregators import Select
from equirl.experiments.checks import check_output_folder
from equirl.experiments.study import Stage, Study
from equirl.experiments.tables import Rows
from equirl.experiments.vision.config import FinetuneConfig, StudyConfig, Variant, proxy_loss_of, variants_of
from equirl.experiments.vision.features import PIECE, take_views
from equirl.experiments.vision.images import read_images
from equirl.experiments.vision.report import report_study
from equirl.experiments.vision.training import join_processes, n_processes
from equirl.experiments.vision.workbench import (
    Job,
    Workbench,
    draw_images,
    fitted_model,
    is_interpolated,
    small_cnn_file,
    trained_network,
)
from equirl.models.images import SymmetrizedClassifier
from equirl.orbit import Orbit
from equirl.rotations import InterpolatedRotations, image_action, make_view, rotate, view_names

__all__ = ["VISION", "train_along"]

_ABOUT = (*Variant._fields, "seed")
_STUDY_COLUMNS = (
    *("method", "group", "angle", "accuracy", "n", "seed"),
    *("level", "kind", "reads", "trained", "labels", "same"),
)
_WEIGHT_COLUMNS = (*_ABOUT, "view", "mean", "low", "median", "high", "largest", "n")
_RELIABILITY_COLUMNS = (*_ABOUT, "tenth", "margin_low", "margin_high", "upright", "accuracy", "n")
_ERROR_COLUMNS = ("group", "n", "mean", "largest")

_BATCH_SIZE = 32
_ERROR_IMAGES = 16

_Network = tuple[FinetuneConfig, int]


def _check(config: StudyConfig) -> None:
    """Check what depends on this machine, meet the other processes, and read the images."""
    for name in config.proxy_loss:
        proxy_loss_of(name)
    if config.cache is not None:
        check_output_folder(config.cache, "--cache")
    if config.cluster is not None and n_processes() > 1:
        raise ValueError("several processes that train together cannot give their runs to a --cluster")
    join_processes(config.device)
    for message in draw_images(config).left_out:
        print(f"left out: {message}")


def _networks(config: StudyConfig) -> list[_Network]:
    """Return the small CNNs that are trained before all else."""
    small = isinstance(config, FinetuneConfig) and config.model == "small-cnn"
    return [(cast(FinetuneConfig, config), seed) for seed in range(config.seeds)] if small else []


def _jobs(config: StudyConfig) -> list[Job]:
    return [
        Job(config, variant, seed)
        for variant in variants_of(config)
        for seed in range(config.seeds if variant.trained != "nothing" or config.model == "small-cnn" else 1)
    ]


def _stages(config: StudyConfig) -> list[Stage[Any]]:
    jobs = _jobs(config)
    in_turn = sorted(jobs, key=lambda job: job.variant.trained == "whole")  # these begin with the λ that others fit
    frozen = [job for job in jobs if job.variant.trained != "whole"]
    weighed = [job for job in frozen if job.variant.method in ("equizero", "lambda_equitune")]
    picked = [job for job in weighed if job.variant.method == "equizero"]
    errors = [Job(config, Variant("-", group), 0) for group in dict.fromkeys(config.group) if is_interpolated(group)]
    stages: list[Stage[Any]] = [
        Stage(_networks(config), _train_small, _network_file, ("seed",), table=None, leaves=(".pt",)),
        Stage(in_turn, _accuracy, partial(Job.file, kind="study"), _STUDY_COLUMNS, order=jobs.index),
    ]
    for kind, run, some, columns in (
        ("weights", _weights, weighed, _WEIGHT_COLUMNS),
        ("reliability", _reliability, picked, _RELIABILITY_COLUMNS),
        ("errors", _errors, errors, _ERROR_COLUMNS),
    ):
        stages.append(Stage(some, run, partial(Job.file, kind=kind), columns, table=f"{kind}.csv"))
    return stages


def train_along(config: StudyConfig) -> None:
    """Do the part of a process that is not the main one: train every network together with the others."""
    _check(config)
    for network in _networks(config):
        _train_small(network)
    for job in _jobs(config):
        path = job.file("study")  # this makes the workbench, for whose features the processes wait
        if job.variant.trained == "whole" and not path.exists():
            trained_network(job)


def _network_file(network: _Network) -> Path:
    return small_cnn_file(*network)


def _train_small(network: _Network) -> Rows:
    Workbench(*network)
    return [(network[1],)]


def _accuracy(job: Job) -> Rows:
    """Return the accuracy on the test images at each angle, upright first, and the share of unchanged answers.

    At angle ``"uniform"`` each image is turned by a random element of the group, at ``"any"`` by a random angle. An
    answer is unchanged (``same``) if it is the one that the upright image gets.
    """
    method, group, *about = job.variant
    labels = torch.from_numpy(job.bench.images.test.labels)
    rows: list[Sequence[Any]] = []
    upright: Tensor | None = None
    for angle, found in _answers(job):
        upright = found if upright is None else upright
        accuracy, same = (_rounded((found == others).double().mean()) for others in (labels, upright))
        rows.append((method, group, angle, accuracy, len(labels), job.seed, *about, same))
    return rows


@torch.no_grad()
def _weights(job: Job) -> Rows:
    """Return how λ, or equizero's choice, weighs each view of all upright test images."""
    model = fitted_model(job)
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
    bench, model = job.bench, fitted_model(job)
    labels = torch.from_numpy(bench.images.test.labels)
    margins, upright, right = [], [], []
    for rows, orbit in _orbits(bench, model, "0"):
        least = cast(Select, model.aggregator).proxy_loss(orbit).sort(dim=1).values
        margins.append(least[:, 1] - least[:, 0])
        upright.append(model.aggregator.weights(orbit)[:, 0])  # a tie counts in part
        right.append(model.logits_of_orbit(orbit).argmax(dim=1) == labels[rows])
    margin, is_upright, is_right = torch.cat(margins), torch.cat(upright), torch.cat(right)
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


def _answers(job: Job) -> Iterator[tuple[str, Tensor]]:
    """Return angles, upright first, and the network's class for each test image turned so, ``[N]``."""
    if job.variant.trained == "whole":
        return _of_trained(job)
    if job.variant.method == "plain":
        return _of_plain(job.bench, job.variant.group)
    return _of_symmetrized(job.bench, fitted_model(job))


@torch.no_grad()
def _of_plain(bench: Workbench, group: str) -> Iterator[tuple[str, Tensor]]:
    def answers(angle: str) -> Tensor:  # to all views, ``[N, |G|]``
        pieces = bench.features(group, "pooled", angle).pieces()
        return torch.cat([bench.classifier.classifier(piece).argmax(dim=2) for _, piece in pieces])

    found = answers("0")
    for g, view in enumerate(view_names(group)):
        yield view, found[:, g]
    yield "uniform", found[torch.arange(len(found)), bench.turns(group)]
    if bench.config.any_angle:
        yield "any", answers("any")[:, 0]


@torch.no_grad()
def _of_symmetrized(bench: Workbench, model: SymmetrizedClassifier) -> Iterator[tuple[str, Tensor]]:
    def answers(angle: str, turns: Tensor | None = None) -> Tensor:
        elements = None if turns is None else model.images.group.cayley.cpu()[:, turns].T
        orbits = _orbits(bench, model, angle, elements)
        return torch.cat([model.logits_of_orbit(orbit).argmax(dim=1) for _, orbit in orbits])

    turns = bench.turns(model.group)
    if is_interpolated(model.group):
        for angle in ("0", "uniform"):  # the orbit of a turned image holds other views
            yield angle, answers(angle)
    else:
        for h, view in enumerate(view_names(model.group)):
            yield view, answers("0", torch.full_like(turns, h))
        yield "uniform", answers("0", turns)
    if bench.config.any_angle:
        yield "any", answers("any")


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


@torch.no_grad()
def _of_trained(job: Job) -> Iterator[tuple[str, Tensor]]:
    bench, group, model, test = job.bench, job.variant.group, trained_network(job), job.bench.images.test
    size, device = bench.classifier.size, next(model.parameters()).device

    def answers(moved: Callable[[Tensor, slice], Tensor]) -> Tensor:
        found = []
        for at in range(0, len(test), PIECE):
            rows = range(at, min(at + PIECE, len(test)))
            images = moved(read_images(test, rows, size), slice(rows.start, rows.stop))
            for some in images.split(_BATCH_SIZE):  # type: ignore[no-untyped-call]
                found.append(model(some.to(device)).argmax(dim=1).cpu())
        return torch.cat(found)

    action = image_action(group, (3, size, size))
    each = job.variant.method == "plain" or not is_interpolated(group)
    for view in view_names(group) if each else ("0",):
        yield view, answers(lambda some, rows, view=view: make_view(view, some))  # type: ignore[misc]
    turns, degrees = bench.turns(group), torch.from_numpy(bench.any_degrees())
    yield "uniform", answers(lambda some, rows: cast(Tensor, action.transform(turns[rows], some)))
    if bench.config.any_angle:
        yield "any", answers(lambda some, rows: rotate(some, degrees[rows]))


VISION: Study[StudyConfig] = Study(_stages, lambda config: report_study(config.out, config.method), _check)
"""``equirl vision zero-shot`` and ``finetune``; curves for TensorBoard are in ``tb/``."""
