"""What is measured: answers to turned images, weights of the views, equizero's choices, rotations' errors, costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.aggregators import Select
from equirl.experiments.bench.memory import peak_of_tensors
from equirl.experiments.bench.timing import Settings, in_turns
from equirl.experiments.devices import check_device
from equirl.experiments.runs import Rows
from equirl.experiments.vision.classifiers import load_backbone
from equirl.experiments.vision.config import SpeedConfig
from equirl.experiments.vision.features import PIECE, Source, take_views
from equirl.experiments.vision.images import read_images
from equirl.experiments.vision.workbench import Job, Workbench, fitted_model, is_interpolated, trained_network
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.orbit import Orbit
from equirl.rotations import InterpolatedRotations, image_action, make_view, rotate, view_names

__all__ = ["ERROR_COLUMNS", "MEASURES", "SPEED_COLUMNS", "error_rows", "speed_rows"]

_ABOUT = ("method", "group", "level", "kind", "reads", "trained", "labels", "seed")
ERROR_COLUMNS = ("group", "n", "mean", "largest")
SPEED_COLUMNS = (
    *("model", "method", "group", "level", "order", "batch"),
    *("seconds", "seconds_low", "seconds_high", "ratio_to_plain", "peak_mb", "peak_ratio_to_plain"),
)

_BATCH_SIZE = 32
_ERROR_IMAGES = 16


def _accuracy(job: Job) -> Rows:
    """Return the accuracy on the test images at each angle, upright first, and the share of unchanged answers.

    At angle ``"uniform"`` each image is turned by a random element of the group, at ``"any"`` by a random angle. An
    answer is unchanged (``same``) if it is the one that the upright image gets.
    """
    method, group, *about = astuple(job.variant)
    labels = torch.from_numpy(job.bench.test.labels)
    rows: list[Sequence[Any]] = []
    upright: Tensor | None = None
    for angle, found in _answers(job):
        upright = found if upright is None else upright
        accuracy, same = (round(float((found == others).double().mean()), 6) for others in (labels, upright))
        rows.append((method, group, angle, accuracy, len(labels), job.seed, *about, same))
    return rows


@torch.no_grad()
def _weights(job: Job) -> Rows:
    """Return how λ, or equizero's choice, weighs each view of all upright test images."""
    bench, model = job.bench, fitted_model(job)
    weights = torch.cat([model.aggregator.weights(orbit) for _, orbit in _orbits(bench, model, "0")])
    largest = weights.argmax(dim=1)
    rows = []
    for g, view in enumerate(view_names(job.variant.group)):
        values = weights[:, g].double()
        spread = (values.mean(), *(values.quantile(q) for q in (0.05, 0.5, 0.95)), (largest == g).double().mean())
        rows.append((*astuple(job.variant), job.seed, view, *(round(float(value), 6) for value in spread), len(values)))
    return rows


@torch.no_grad()
def _reliability(job: Job) -> Rows:
    """Return how often equizero chooses the upright view, and is right, by tenths of the upright test images.

    The tenths are ordered by the margin, the difference of the two least proxy losses.
    """
    bench, model = job.bench, fitted_model(job)
    labels = torch.from_numpy(bench.test.labels)
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
            bounds = round(float(margin[some].min()), 6), round(float(margin[some].max()), 6)
            shares = (round(float(value[some].double().mean()), 6) for value in (is_upright, is_right))
            found.append((*astuple(job.variant), job.seed, tenth + 1, *bounds, *shares, len(some)))
    return found


MEASURES: dict[str, tuple[Sequence[str], Callable[[Job], Rows]]] = {
    "study": (
        (
            *("method", "group", "angle", "accuracy", "n", "seed"),
            *("level", "kind", "reads", "trained", "labels", "same"),
        ),
        _accuracy,
    ),
    "weights": ((*_ABOUT, "view", "mean", "low", "median", "high", "largest", "n"), _weights),
    "reliability": ((*_ABOUT, "tenth", "margin_low", "margin_high", "upright", "accuracy", "n"), _reliability),
}
"""Tables that have rows from each run, by name: their columns, and the function that measures the rows."""


@torch.no_grad()
def error_rows(bench: Workbench, groups: Sequence[str]) -> Rows:
    """Return how far interpolated rotations are from a group, on some test images."""
    size = bench.classifier.size
    images = read_images(bench.test, range(min(_ERROR_IMAGES, len(bench.test))), size)
    rows = []
    for group in groups:
        action = image_action(group, (3, size, size))
        if isinstance(action, InterpolatedRotations):
            errors = torch.cat([action.homomorphism_errors(image.unsqueeze(0)) for image in images])
            rows.append((group, len(images), round(float(errors.mean()), 4), round(float(errors.max()), 4)))
    return rows


def _answers(job: Job) -> Iterator[tuple[str, Tensor]]:
    """Yield angles, upright first, and the network's class for each test image turned so, ``[N]``."""
    if job.variant.trained == "whole":
        yield from _of_trained(job)
    elif job.variant.method == "plain":
        yield from _of_plain(job.bench, job.variant.group)
    else:
        yield from _of_symmetrized(job.bench, fitted_model(job))


def _of_plain(bench: Workbench, group: str) -> Iterator[tuple[str, Tensor]]:
    found = _plain_answers(bench, bench.test_source(group, "0"), group)
    for g, view in enumerate(view_names(group)):
        yield view, found[:, g]
    yield "uniform", found[torch.arange(len(found)), bench.turns(group)]
    if bench.config.any_angle:
        yield "any", _plain_answers(bench, bench.test_source(group, "any"), group)[:, 0]


@torch.no_grad()
def _plain_answers(bench: Workbench, source: Source, group: str) -> Tensor:
    """Return the plain network's answers to all views, ``[N, |G|]``, from features on disk."""
    features = bench.features(source, group, "pooled")
    return torch.cat([bench.classifier.classifier(piece).argmax(dim=2) for _, piece in features.pieces()])


def _of_symmetrized(bench: Workbench, model: SymmetrizedClassifier) -> Iterator[tuple[str, Tensor]]:
    group, cayley = model.group, model.images.group.cayley.cpu()
    if is_interpolated(group):
        for angle in ("0", "uniform"):  # the orbit of a turned image holds other views
            yield angle, _from_orbits(bench, model, angle)
    else:
        for h, view in enumerate(view_names(group)):
            yield view, _from_orbits(bench, model, "0", cayley[:, torch.full((len(bench.test),), h)].T)
        yield "uniform", _from_orbits(bench, model, "0", cayley[:, bench.turns(group)].T)
    if bench.config.any_angle:
        yield "any", _from_orbits(bench, model, "any")


@torch.no_grad()
def _from_orbits(bench: Workbench, model: SymmetrizedClassifier, angle: str, elements: Tensor | None = None) -> Tensor:
    return torch.cat(
        [model.logits_of_orbit(orbit).argmax(dim=1) for _, orbit in _orbits(bench, model, angle, elements)]
    )


def _orbits(
    bench: Workbench, model: SymmetrizedClassifier, angle: str, elements: Tensor | None = None
) -> Iterator[tuple[slice, Orbit]]:
    """Yield rows of test images and their orbits, from features on disk; ``elements [N, |G|]`` orders the views."""
    source = bench.test_source(model.group, angle)
    pieces = [bench.features(source, model.group, part).pieces() for part in model.parts]
    for found in zip(*pieces, strict=True):
        rows = found[0][0]
        views = {part: features for part, (_, features) in zip(model.parts, found, strict=True)}
        if elements is not None:
            views = {part: take_views(features, elements[rows]) for part, features in views.items()}
        yield rows, model.orbit(**views)


def _of_trained(job: Job) -> Iterator[tuple[str, Tensor]]:
    bench, variant = job.bench, job.variant
    model = trained_network(job)
    size = bench.classifier.size
    action = image_action(variant.group, (3, size, size))
    each = variant.method == "plain" or not is_interpolated(variant.group)
    for view in view_names(variant.group) if each else ("0",):
        yield view, _from_images(bench, model, lambda some, rows, view=view: make_view(view, some))  # type: ignore[misc]
    turns = bench.turns(variant.group)
    yield "uniform", _from_images(bench, model, lambda some, rows: cast(Tensor, action.transform(turns[rows], some)))
    if bench.config.any_angle:
        degrees = torch.from_numpy(bench.any_degrees())
        yield "any", _from_images(bench, model, lambda some, rows: rotate(some, degrees[rows]))


@torch.no_grad()
def _from_images(bench: Workbench, model: nn.Module, moved: Callable[[Tensor, slice], Tensor]) -> Tensor:
    device = next(model.parameters()).device
    found = []
    for at in range(0, len(bench.test), PIECE):
        rows = range(at, min(at + PIECE, len(bench.test)))
        images = moved(read_images(bench.test, rows, bench.classifier.size), slice(rows.start, rows.stop))
        for some in images.split(_BATCH_SIZE):  # type: ignore[no-untyped-call]
            found.append(model(some.to(device)).argmax(dim=1).cpu())
    return torch.cat(found)


def speed_rows(config: SpeedConfig) -> Iterator[Sequence[Any]]:
    """Yield the time and peak memory of each variant on each batch of random images, without gradients.

    Raises:
        ValueError: An unknown model, or a device that cannot be used here.
    """
    check_device(config.device)
    torch.set_num_threads(config.threads)
    classifier = load_backbone(config.model, 10).to(config.device).eval()
    models: dict[tuple[str, str, str], Any] = {("plain", "-", "-"): classifier}
    for group in config.group:
        for method in config.method:
            for level in config.level:
                aggregator = make_image_aggregator(method, classifier.pooled_length())
                model: nn.Module = SymmetrizedClassifier(classifier, group, aggregator, level)
                models[method, group, level] = model.to(config.device).eval()
    settings = Settings(config.device, config.threads, config.rounds, min_seconds=0.0, quick=False)
    for batch in config.batch:
        images = torch.rand(batch, 3, classifier.size, classifier.size, device=config.device)
        cases = {" ".join(key): partial(_logits, model, images) for key, model in models.items()}
        times = {name: np.array(seconds) for name, seconds in in_turns(cases, settings).items()}
        peaks = {name: peak_of_tensors(case, images.device.type) for name, case in cases.items()}
        plain = next(iter(cases))
        for (key, model), name in zip(models.items(), cases, strict=True):
            low, middle, high = np.percentile(times[name], [25, 50, 75])
            order = model.images.group.order if isinstance(model, SymmetrizedClassifier) else 1
            yield (
                *(config.model, *key, order, batch),
                *(round(float(value), 5) for value in (middle, low, high)),
                round(float(np.median(times[name] / times[plain])), 3),
                *(round(peaks[name], 2), round(peaks[name] / peaks[plain], 3)),
            )


@torch.no_grad()
def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(images)
    return logits
