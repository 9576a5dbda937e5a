"""Statistical tests of what an environment shows: equal distributions in many states, and repeats that are alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "Sample", "alike_test", "least_significance", "pooled_test", "resolution"]

Rows = NDArray[np.float64]
"""Values of several samples, shape ``[n, size]``."""

_LEAST_PERMUTATIONS = 4999
_MOST_PERMUTATIONS = 49_999
_BLOCK = 250  # permutations made together
_PILOT = 200  # permutations that estimate mean and deviation of a statistic
_ENOUGH = 20  # permutations at least as extreme: the p-value is not small, and no more are made
_FEW = 40  # outcomes: a chi-square statistic then has enough of each
_MOST_DISTANCES = 4e8  # coordinates compared to find which outcomes are the same up to the tolerance


def least_significance(n_tests: int) -> float:
    """Return the smallest significance that ``n_tests`` tests can share, given how many permutations are made."""
    return 2 * n_tests / _MOST_PERMUTATIONS


def resolution(rows: Rows, precision: Rows, tolerance: float) -> Rows:
    """Return the largest difference of each coordinate that counts as none: the tolerance and a few last bits.

    Args:
        rows: Values, shape ``[n, size]``.
        precision: Relative rounding error of each coordinate, shape ``[size]``.
        tolerance: Absolute.
    """
    exact = ((rows == np.trunc(rows)) & (np.abs(rows) < 2**23)).all(axis=0)
    largest = np.abs(np.where(np.isfinite(rows), rows, 0)).max(axis=0)
    return np.asarray(tolerance + np.where(exact, 0, 8 * precision * largest))


@dataclass(frozen=True)
class Sample:
    """Two samples from one state, ready to be relabelled: distinct outcomes, and how often each came up.

    Attributes:
        counts: How often each outcome came up in both samples together, shape ``[k]``.
        first: How often in the first sample, shape ``[k]``.
        distances: Distances between the outcomes, shape ``[k, k]``; each coordinate in units of its deviation.
    """

    counts: NDArray[np.int64]
    first: NDArray[np.int64]
    distances: Rows

    @classmethod
    def of(cls, first: Rows, second: Rows, resolution: Rows, join: bool = True) -> Sample:
        """Return two samples ``[n, size]`` and ``[m, size]`` in this form.

        Args:
            first: One outcome a row.
            second: As above.
            resolution: Largest difference of each coordinate that counts as none, shape ``[size]``.
            join: Whether outcomes that differ by less than the resolution are the same outcome.
        """
        from scipy.spatial.distance import cdist  # a second to import, which only these tests need

        rows = _without_infinities(np.concatenate([first, second]))
        spread = np.ptp(rows, axis=0)
        moving = spread > resolution
        rows = rows[:, moving]
        outcomes, member = np.unique(rows, axis=0, return_inverse=True)
        member = member.reshape(-1)
        if join and len(outcomes) ** 2 * rows.shape[1] <= _MOST_DISTANCES:
            label = _joined(outcomes / np.maximum(resolution[moving], 1e-300))
            member = label[member]
            outcomes = np.stack([outcomes[label == each].mean(axis=0) for each in range(label.max() + 1)])
        k = len(outcomes)
        counts = np.bincount(member, minlength=k)
        deviation = rows.std(axis=0)
        scaled = outcomes / np.where(deviation > 0, deviation, 1)
        return cls(counts, np.bincount(member[: len(first)], minlength=k), cdist(scaled, scaled))

    @property
    def few(self) -> bool:
        """Whether the outcomes are so few that counting them makes sense."""
        return len(self.counts) <= _FEW

    def relabelled(self, n: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Return ``n`` first samples drawn from both together, as counts ``[n, k]``."""
        size = int(self.first.sum())
        if self.few:
            return random.multivariate_hypergeometric(self.counts, size, size=n)
        member = np.repeat(np.arange(len(self.counts)), self.counts)
        drawn = random.permuted(np.tile(member, (n, 1)), axis=1)[:, :size] if size else np.zeros((n, 0), np.int64)
        flat = drawn + np.arange(n)[:, None] * len(self.counts)
        return np.bincount(flat.reshape(-1), minlength=n * len(self.counts)).reshape(n, -1)

    def statistics(self, first: NDArray[np.int64]) -> list[Rows]:
        """Return the energy distance, and chi-square where outcomes are few, of first samples ``[n, k]``."""
        n_first = int(self.first.sum())
        n_second = int(self.counts.sum()) - n_first
        difference = first / n_first - (self.counts - first) / n_second
        # 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely and Rizzo 2013) = -(p - q)' D (p - q)
        found = [-np.einsum("ni,ni->n", difference @ self.distances, difference)]
        if self.few:
            found.append(((difference**2) / self.counts).sum(axis=1))
        return found


def pooled_test(samples: Sequence[Sample], random: np.random.Generator, level: float) -> float:
    """Return the p-value of a permutation test that, in each state, both samples come from one distribution.

    The statistic of a state is the larger one of its energy distance and chi-square, each in units of its deviation
    under relabelling; their sum sees a small difference in all states, their maximum a large one in a single state.
    The permutations end early where the p-value is not small (Besag and Clifford 1991).

    Args:
        samples: One for each state.
        random: Draws the permutations.
        level: The significance; so many permutations are made that the p-value can fall below it.
    """
    samples = [sample for sample in samples if len(sample.counts) > 1]
    if not samples:
        return 1.0
    n_tests = 1 if len(samples) == 1 else 2
    most = min(max(_LEAST_PERMUTATIONS, math.ceil(2 * n_tests / level)), _MOST_PERMUTATIONS)
    units = [_units(sample, random) for sample in samples]
    observed = _standardized(samples, units, [sample.first[None] for sample in samples])
    # A difference between two orders of one sum is no difference.
    bounds = [statistic[0] - 1e-9 * (1 + abs(statistic[0])) for statistic in observed]
    extreme, done = np.zeros(2), 0
    p = [0.0, 0.0]
    while done < most and not all(p[:n_tests]):
        drawn = [sample.relabelled(_BLOCK, random) for sample in samples]
        for i, statistic in enumerate(_standardized(samples, units, drawn)[:n_tests]):
            if p[i]:
                continue
            reached = extreme[i] + np.cumsum(statistic >= bounds[i])
            if reached[-1] >= _ENOUGH:
                p[i] = _ENOUGH / (done + 1 + int(np.argmax(reached >= _ENOUGH)))
            extreme[i] = reached[-1]
        done += _BLOCK
    values = [p[i] or (extreme[i] + 1) / (done + 1) for i in range(n_tests)]
    return float(min(1.0, n_tests * min(values)))


def alike_test(groups: NDArray[np.float64], random: np.random.Generator, resolution: Rows) -> float:
    """Return the p-value of a permutation test that the first row of each group is like the others.

    Args:
        groups: Rows from one state each, shape ``[n, rows, size]``; the first row came about in another way.
        random: Draws the permutations.
        resolution: Largest difference of each coordinate that counts as none, shape ``[size]``.
    """
    rows = _without_infinities(groups.reshape(-1, groups.shape[-1])).reshape(groups.shape)
    deviations = rows - np.median(rows, axis=1, keepdims=True)
    scale = deviations.std(axis=(0, 1))
    moving = np.abs(deviations).max(axis=(0, 1)) > resolution
    if not moving.any():
        return 1.0
    rows, scale, resolution = rows[..., moving], scale[moving], resolution[moving]

    def distances(i: int) -> Rows:
        gap = rows - rows[:, i : i + 1]
        return np.asarray(np.linalg.norm(np.where(np.abs(gap) <= resolution, 0, gap) / scale, axis=-1).sum(axis=1))

    # How far each row is from the others of its group, in units of the group's mean.
    far = np.stack([distances(i) for i in range(len(rows[0]))])
    mean = far.mean(axis=0)
    scores = (far / np.where(mean > 0, mean, 1)).T[mean > 0]
    if not len(scores):
        return 1.0
    n = _MOST_PERMUTATIONS // 5
    drawn = scores[np.arange(len(scores)), random.integers(scores.shape[1], size=(n, len(scores)))].sum(axis=1)
    return float((1 + (drawn >= scores[:, 0].sum() - 1e-9).sum()) / (1 + n))


def _units(sample: Sample, random: np.random.Generator) -> list[tuple[float, float]]:
    pilot = sample.statistics(sample.relabelled(_PILOT, random))
    return [(float(each.mean()), float(each.std())) for each in pilot]


def _standardized(
    samples: Sequence[Sample], units: Sequence[list[tuple[float, float]]], first: Sequence[NDArray[np.int64]]
) -> tuple[Rows, Rows]:
    """Return sum and maximum over the states of their statistics."""
    by_state = []
    for sample, unit, labels in zip(samples, units, first, strict=True):
        each = [
            (statistic - mean) / deviation if deviation > 1e-12 else np.zeros(len(statistic))
            for statistic, (mean, deviation) in zip(sample.statistics(labels), unit, strict=True)
        ]
        by_state.append(np.max(each, axis=0))
    stacked = np.stack(by_state)
    return stacked.sum(axis=0), stacked.max(axis=0)


def _joined(scaled: Rows) -> NDArray[np.int64]:
    """Return a label for each row: rows within 1 of each other, or linked by such, share one."""
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial.distance import cdist

    close = cdist(scaled, scaled, "chebyshev") <= 1
    return np.asarray(connected_components(close, directed=False)[1], dtype=np.int64)


def _without_infinities(rows: Rows) -> Rows:
    """Return rows whose infinities are finite, and farther out than anything else in their column."""
    if np.isfinite(rows).all():
        return rows
    finite = np.where(np.isfinite(rows), rows, 0)
    far = 2 * np.abs(finite).max(axis=0) + 1
    return np.where(np.isfinite(rows), rows, np.sign(rows) * far)
