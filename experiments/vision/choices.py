"""How views are weighed and chosen over the whole test set, and how far interpolated rotations are from a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch

from equirl.aggregators import Select
from equirl.experiments.runs import Rows
from equirl.experiments.vision.answers import orbits
from equirl.experiments.vision.config import Variant
from equirl.experiments.vision.jobs import Job
from equirl.experiments.vision.models import fitted_model
from equirl.experiments.vision.orbit_features import read_images
from equirl.experiments.vision.workbench import Workbench
from equirl.rotations import InterpolatedRotations, image_action, view_names

__all__ = [
    "ERROR_COLUMNS",
    "RELIABILITY_COLUMNS",
    "WEIGHT_COLUMNS",
    "error_rows",
    "reliability_rows",
    "weight_rows",
]

_ABOUT = ("method", "group", "level", "kind", "reads", "trained", "labels", "seed")
WEIGHT_COLUMNS = (*_ABOUT, "view", "mean", "low", "median", "high", "largest", "n")
RELIABILITY_COLUMNS = (*_ABOUT, "tenth", "margin_low", "margin_high", "upright", "accuracy", "n")
ERROR_COLUMNS = ("group", "n", "mean", "largest")

_MEASURED = 16


@torch.no_grad()
def weight_rows(job: Job) -> Rows:
    """Return how λ, or equizero's choice, weighs each view of all upright test images."""
    _, variant, seed, _ = job
    bench, model = job.bench, fitted_model(job)
    weights = torch.cat([model.aggregator.weights(orbit_of(None)) for _, orbit_of in orbits(bench, model, "0")])
    largest = weights.argmax(dim=1)
    rows = []
    for g, view in enumerate(view_names(variant.group)):
        values = weights[:, g].double()
        low, median, high = (round(float(values.quantile(q)), 6) for q in (0.05, 0.5, 0.95))
        share = round(float((largest == g).double().mean()), 6)
        rows.append(
            (*_about(variant, seed), view, round(float(values.mean()), 6), low, median, high, share, len(values))
        )
    return rows


@torch.no_grad()
def reliability_rows(job: Job) -> Rows:
    """Return tenths of the upright test images by margin: how often the choice is the upright view, and right."""
    _, variant, seed, _ = job
    bench, model = job.bench, fitted_model(job)
    labels = bench.labels_of(bench.test)
    margins, upright, right = [], [], []
    for rows, orbit_of in orbits(bench, model, "0"):
        orbit = orbit_of(None)
        losses = cast(Select, model.aggregator).proxy_loss(orbit)
        least = losses.sort(dim=1).values
        margins.append(least[:, 1] - least[:, 0])
        upright.append(model.aggregator.weights(orbit)[:, 0])  # a tie counts for its part
        right.append(model.logits_of_orbit(orbit).argmax(dim=1) == labels[rows])
    margin, is_upright, is_right = torch.cat(margins), torch.cat(upright), torch.cat(right)
    found = []
    for tenth, some in enumerate(np.array_split(margin.argsort().numpy(), 10)):
        if len(some):
            bounds = round(float(margin[some].min()), 6), round(float(margin[some].max()), 6)
            shares = (round(float(value[some].double().mean()), 6) for value in (is_upright, is_right))
            found.append((*_about(variant, seed), tenth + 1, *bounds, *shares, len(some)))
    return found


@torch.no_grad()
def error_rows(bench: Workbench, groups: Sequence[str]) -> Rows:
    """Return how far interpolated rotations are from a group, on some test images."""
    size = bench.classifier.size
    images = read_images(bench.test, range(min(_MEASURED, len(bench.test))), size)
    rows = []
    for group in groups:
        action = image_action(group, (3, size, size))
        if isinstance(action, InterpolatedRotations):
            errors = torch.cat([action.homomorphism_errors(image.unsqueeze(0)) for image in images])
            rows.append((group, len(images), round(float(errors.mean()), 4), round(float(errors.max()), 4)))
    return rows


def _about(variant: Variant, seed: int) -> Sequence[Any]:
    return (
        *(variant.method, variant.group, variant.level, variant.kind),
        *(variant.reads, variant.trained, variant.labels, seed),
    )
