"""``equirl vision zero-shot`` and ``finetune``: every variant at every angle, resumable run by run.

A run measures the accuracies of a variant and a seed, the weights of the views, and how reliable equizero's choice is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple
from functools import partial
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor, nn

from equirl.aggregators import Select
from equirl.experiments.records import Table, write_tables
from equirl.experiments.runs import Rows, run_missing
from equirl.experiments.vision.config import StudyConfig, check_config, variants_of
from equirl.experiments.vision.features import PIECE, Source, compute_missing, take_views
from equirl.experiments.vision.images import read_images
from equirl.experiments.vision.training import is_main_process, join_processes, main_process_first, n_processes
from equirl.experiments.vision.workbench import (
    Job,
    Workbench,
    fitted_model,
    is_interpolated,
    trained_network,
    workbench,
)
from equirl.models.images import SymmetrizedClassifier
from equirl.orbit import Orbit
from equirl.rotations import InterpolatedRotations, image_action, make_view, rotate, view_names

__all__ = ["run_study"]

_ABOUT = ("method", "group", "level", "kind", "reads", "trained", "labels", "seed")
_ERROR_COLUMNS = ("group", "n", "mean", "largest")

_BATCH_SIZE = 32
_ERROR_IMAGES = 16


def run_study(config: StudyConfig) -> pd.DataFrame:
    """Run what is missing; write the tables that ``report_study`` reads, and ``record.json``; return the accuracies.

    Raises:
        ValueError: A setting cannot be used on this machine, or there are too few images.
    """
    check_config(config)
    join_processes(config.device)
    benches = _prepared(config)
    for message in benches[0].left_out:
        print(f"left out: {message}")
    variants = variants_of(config)
    parts = sorted({part for variant in variants for part in variant.parts})
    features = [each for bench in benches for each in bench.all_features(config.group, parts)]
    with main_process_first(config.device):
        compute_missing(features, config.n_jobs)
    jobs: list[Job] = []
    for variant in variants:
        trained = variant.trained != "nothing" or config.model == "small-cnn"
        for seed in range(config.seeds if trained else 1):
            jobs.append(Job(config, variant, seed, benches[min(seed, len(benches) - 1)].key))
    whole = [job for job in jobs if job.variant.trained == "whole"]
    frozen = [job for job in jobs if job.variant.trained != "whole"]
    weighed = [job for job in frozen if job.variant.method in ("equizero", "lambda_equitune")]
    picked = [job for job in weighed if job.variant.method == "equizero"]
    with main_process_first(config.device):
        for kind, some in (("study", frozen), ("weights", weighed), ("reliability", picked)):
            _run(config, some, kind)
    if whole:
        _run(config, whole, "study")
    with main_process_first(config.device):
        if is_main_process():
            tables: dict[str, Table] = {
                f"{kind}.csv": (_MEASURES[kind][0], [job.file(kind) for job in some])
                for kind, some in (("study", jobs), ("weights", weighed), ("reliability", picked))
            }
            tables["errors.csv"] = (_ERROR_COLUMNS, _errors(benches[0], config.group))
            write_tables(config.out, tables, config)
    return pd.read_csv(config.out / "study.csv")


def _prepared(config: StudyConfig) -> list[Workbench]:
    """Return the workbench of every network; small CNNs are trained some at a time."""
    seeds = range(config.seeds if config.model == "small-cnn" else 1)
    if len(seeds) > 1 and config.n_jobs > 1 and n_processes() == 1:
        Parallel(n_jobs=config.n_jobs)(delayed(_prepare)(config, seed) for seed in seeds)
    return [workbench(config, seed) for seed in seeds]


def _prepare(config: StudyConfig, seed: int) -> None:
    workbench(config, seed)  # its network is kept in a file; it is not sent between processes


def _run(config: StudyConfig, jobs: Sequence[Job], kind: str) -> None:
    columns, rows_of = _MEASURES[kind]
    n_jobs = config.n_jobs if n_processes() == 1 else 1  # processes that train together start no others
    run_missing(jobs, rows_of, partial(Job.file, kind=kind), columns, n_jobs)


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


_MEASURES: dict[str, tuple[Sequence[str], Callable[[Job], Rows]]] = {
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
def _errors(bench: Workbench, groups: Sequence[str]) -> Rows:
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
