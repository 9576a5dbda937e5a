"""The rows of the bench: what was measured, beside the plain network and the floor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from equirl.experiments.timing import Settings, in_turns

__all__ = ["COLUMNS", "Measurement", "compare", "per_item", "rows_of"]


@dataclass(frozen=True)
class Measurement:
    """One row of the bench.

    Attributes:
        what: What was done.
        method: By which method, ``"plain"`` without symmetrization.
        group: Name of the group.
        backbone: Kind of network.
        size: Rows and columns of the images, or what else was varied.
        batch: Samples, or environments.
        seconds: Median over the rounds.
        seconds_low: Lower quartile.
        seconds_high: Upper quartile.
        ratio_to_plain: Median over the rounds of the ratio to the plain network in the same round.
        ratio_to_floor: The same to the floor: the smaller of ``|G|`` times plain and plain on ``|G|`` times the
            samples.
        rounds: Number of rounds, or of seeds.
        peak_mb: Peak memory beyond what was there before, in MB.
        steps: Environment steps, where something was learned.
        device: What it ran on: ``"cpu"``, or the GPU's name.
        threads: Torch threads.
    """

    what: str
    method: str
    group: str
    backbone: str
    size: int
    batch: int
    seconds: float
    seconds_low: float = math.nan
    seconds_high: float = math.nan
    ratio_to_plain: float = math.nan
    ratio_to_floor: float = math.nan
    rounds: int = 1
    peak_mb: float = math.nan
    steps: float = math.nan
    device: str = "cpu"
    threads: int = 1


_FIRST = ("what", "method", "group", "backbone", "batch", "seconds", "ratio_to_plain", "ratio_to_floor")

COLUMNS = (*_FIRST, *(field.name for field in fields(Measurement) if field.name not in _FIRST))
"""Columns of ``bench.csv``."""


def compare(
    cases: Mapping[str, Callable[[], object]],
    settings: Settings,
    what: str,
    group: str,
    backbone: str,
    size: int,
    batch: int,
    order: int | None = None,
    all_views: Callable[[], object] | None = None,
) -> list[Measurement]:
    """Return a row for each case, with its ratio to the case ``"plain"``.

    Args:
        cases: Method to what is timed; the first is what the others are compared with.
        settings: How to measure.
        what: What is done.
        group: Name of the group.
        backbone: Kind of network.
        size: Size of the images.
        batch: Samples.
        order: Order of the group, for the floor.
        all_views: The plain network on ``order * batch`` samples, for the floor.
    """
    timed = dict(cases) if all_views is None else {**cases, "|G| x batch": all_views}
    seconds = in_turns(timed, settings)
    floor = None
    if all_views is not None and order is not None:
        plain = np.array(next(iter(seconds.values())))
        floor = np.minimum(order * plain, seconds.pop("|G| x batch"))
    return rows_of(seconds, settings, what, group, backbone, size, batch, floor)


def rows_of(
    seconds: Mapping[str, Sequence[float]],
    settings: Settings,
    what: str,
    group: str,
    backbone: str,
    size: int,
    batch: int,
    floor: NDArray[np.float64] | None = None,
) -> list[Measurement]:
    """Return a row for each method, see ``compare``, from its seconds in each round and those of the floor."""
    plain = np.array(next(iter(seconds.values())))
    rows: list[Measurement] = []
    for name, times in seconds.items():
        low, middle, high = np.percentile(times, [25, 50, 75]).tolist()
        rows.append(
            Measurement(
                *(what, name, group if rows else "-", backbone, size, batch, middle, low, high),
                ratio_to_plain=float(np.median(times / plain)),
                ratio_to_floor=math.nan if floor is None else float(np.median(times / floor)),
                rounds=len(times),
                device=settings.device_name,
                threads=settings.threads,
            )
        )
    return rows


def per_item(row: Measurement, n: int) -> Measurement:
    """Return a row for one of the ``n`` items that its seconds are for."""
    return replace(row, seconds=row.seconds / n, seconds_low=row.seconds_low / n, seconds_high=row.seconds_high / n)
