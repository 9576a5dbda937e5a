"""The answers of a run to the test images, turned by every angle; from features on disk wherever the network rests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from equirl.experiments.vision.jobs import Job
from equirl.experiments.vision.models import fitted_model, trained_network
from equirl.experiments.vision.orbit_features import PIECE, Source, read_images
from equirl.experiments.vision.training import take_views
from equirl.experiments.vision.workbench import Workbench
from equirl.models.images import SymmetrizedClassifier
from equirl.orbit import Orbit
from equirl.rotations import InterpolatedRotations, image_action, make_view, rotate, view_names

__all__ = ["answers", "orbits"]

_TOGETHER = 32

OrbitOf = Callable[[Tensor | None], Orbit]


def answers(job: Job) -> Iterator[tuple[str, Tensor]]:
    """Yield angles, upright (``"0"``) first, and the class that each test image turned so is taken for, ``[N]``.

    ``"uniform"``: each image is turned by a random element of the group; ``"any"``: by a random angle.
    """
    bench, variant = job.bench, job.variant
    if variant.trained == "whole":
        yield from _of_trained(job)
    elif variant.method == "plain":
        yield from _of_plain(bench, variant.group)
    else:
        yield from _of_symmetrized(bench, fitted_model(job))


def orbits(bench: Workbench, model: SymmetrizedClassifier, angle: str) -> Iterator[tuple[slice, OrbitOf]]:
    """Yield rows of test images, and a function that makes their orbit, its views in a given order ``[n, |G|]``."""
    source = bench.test_source(model.group, angle)
    pieces = [bench.features(source, model.group, part).pieces() for part in model.parts]
    for found in zip(*pieces, strict=True):
        views = {part: features for part, (_, features) in zip(model.parts, found, strict=True)}
        yield found[0][0], partial(_orbit_of, model, views)


def _orbit_of(model: SymmetrizedClassifier, views: dict[str, Tensor], elements: Tensor | None) -> Orbit:
    if elements is not None:
        views = {part: take_views(features, elements) for part, features in views.items()}
    return model.orbit(**views)


def _of_plain(bench: Workbench, group: str) -> Iterator[tuple[str, Tensor]]:
    found = _plain_answers(bench, bench.test_source(group, "0"), group)
    for g, view in enumerate(view_names(group)):
        yield view, found[:, g]
    yield "uniform", found[torch.arange(len(found)), bench.turns(group)]
    if bench.config.any_angle:
        yield "any", _plain_answers(bench, bench.test_source(group, "any"), group)[:, 0]


@torch.no_grad()
def _plain_answers(bench: Workbench, source: Source, group: str) -> Tensor:
    """Return the plain network's answers to all views, ``[N, |G|]``."""
    features = bench.features(source, group, "pooled")
    return torch.cat([bench.classifier.classifier(piece).argmax(dim=2) for _, piece in features.pieces()])


def _of_symmetrized(bench: Workbench, model: SymmetrizedClassifier) -> Iterator[tuple[str, Tensor]]:
    group, cayley = model.group, model.images.group.cayley.cpu()
    if isinstance(model.images, InterpolatedRotations):
        for angle in ("0", "uniform"):  # a turned image has an orbit of its own
            yield angle, _from_orbits(bench, model, angle)
    else:
        for h, view in enumerate(view_names(group)):
            yield view, _from_orbits(bench, model, "0", cayley[:, torch.full((len(bench.test),), h)].T)
        yield "uniform", _from_orbits(bench, model, "0", cayley[:, bench.turns(group)].T)
    if bench.config.any_angle:
        yield "any", _from_orbits(bench, model, "any")


@torch.no_grad()
def _from_orbits(bench: Workbench, model: SymmetrizedClassifier, angle: str, elements: Tensor | None = None) -> Tensor:
    found = []
    for rows, orbit_of in orbits(bench, model, angle):
        moved = orbit_of(None if elements is None else elements[rows])
        found.append(model.logits_of_orbit(moved).argmax(dim=1))
    return torch.cat(found)


def _of_trained(job: Job) -> Iterator[tuple[str, Tensor]]:
    bench, variant = job.bench, job.variant
    model = trained_network(job)
    size = bench.classifier.size
    action = image_action(variant.group, (3, size, size))
    each = variant.method == "plain" or not isinstance(action, InterpolatedRotations)
    for view in view_names(variant.group) if each else ("0",):
        yield view, _from_images(bench, model, partial(_viewed, view))
    turns = bench.turns(variant.group)
    yield "uniform", _from_images(bench, model, lambda some, rows: cast(Tensor, action.transform(turns[rows], some)))
    if bench.config.any_angle:
        degrees = torch.from_numpy(bench.any_degrees())
        yield "any", _from_images(bench, model, lambda some, rows: rotate(some, degrees[rows]))


def _viewed(view: str, images: Tensor, rows: slice) -> Tensor:
    return make_view(view, images)


@torch.no_grad()
def _from_images(bench: Workbench, model: nn.Module, moved: Callable[[Tensor, slice], Tensor]) -> Tensor:
    device = next(model.parameters()).device
    found = []
    for at in range(0, len(bench.test), PIECE):
        rows = range(at, min(at + PIECE, len(bench.test)))
        images = moved(read_images(bench.test, rows, bench.classifier.size), slice(rows.start, rows.stop))
        for some in images.split(_TOGETHER):  # type: ignore[no-untyped-call]
            found.append(model(some.to(device)).argmax(dim=1).cpu())
    return torch.cat(found)
