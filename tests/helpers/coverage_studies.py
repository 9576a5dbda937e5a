"""Simulated studies: how often the intervals of equirl hold the true value. A share of studies each, in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import NDArray

from equirl.agents.interquartile import interquartile_interval
from equirl.agents.intervals import (
    mean_interval,
    profile_margin,
    rate_interval,
    stratified_rate_interval,
    superiority_interval,
)

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


class Scores(NamedTuple):
    """A distribution of scores: how to draw them, the inverse of its distribution function, and its mean."""

    draw: Draw
    quantile: Callable[[Array], Array]
    mean: float

    def middle(self) -> float:
        """Return the mean of the middle half."""
        places = (np.arange(20_000) + 0.5) / 20_000
        return float(self.quantile(0.25 + places / 2).mean())


def _beta(a: float, b: float) -> Scores:
    return Scores(lambda random, shape: random.beta(a, b, shape), scipy.stats.beta(a, b).ppf, a / (a + b))


def _tenth_fails(places: Array) -> Array:
    """Return 0 for the lowest tenth, and 0.8 to 0.9, evenly, for the others."""
    return np.where(places < 0.1, 0.0, 0.8 + (places - 0.1) / 9)


SCORES = {
    "normal": Scores(lambda random, shape: random.normal(size=shape), scipy.stats.norm.ppf, 0.0),
    "uniform": Scores(lambda random, shape: random.random(shape), lambda places: places, 0.5),
    "Beta(8, 2)": _beta(8, 2),
    "Beta(9, 1)": _beta(9, 1),
    "Beta(19, 1)": _beta(19, 1),
    "exponential": Scores(lambda random, shape: random.exponential(size=shape), scipy.stats.expon.ppf, 1.0),
    "one in ten fails": Scores(lambda random, shape: _tenth_fails(random.random(shape)), _tenth_fails, 0.9 * 0.85),
    "Student, 3 d.f.": Scores(lambda random, shape: random.standard_t(3, shape), scipy.stats.t(3).ppf, 0.0),
    "Beta(0.5, 0.5)": _beta(0.5, 0.5),
    "Beta(1.8, 0.2)": _beta(1.8, 0.2),
}
"""Distributions of scores by name; the last two pile up at their ends."""


def _held(low: Array, high: Array, truth: float) -> float:
    """Return how often an interval that is known holds the truth."""
    known = np.isfinite(low)
    return float(((low <= truth) & (truth <= high))[known].mean())


def middle_coverage(scores: Scores, n: int, studies: int, random: np.random.Generator) -> float:
    """Return the coverage of ``interquartile_interval`` over ``n`` runs."""
    return _held(*interquartile_interval(scores.draw(random, (n, studies))), scores.middle())


def bootstrap_coverage(scores: Scores, n: int, studies: int, random: np.random.Generator) -> float:
    """Return the coverage of the percentile bootstrap of the interquartile mean, which equirl does not use."""
    runs, cut = scores.draw(random, (n, studies)), n // 4
    picks = random.integers(n, size=(n, 500))
    resampled = np.sort(runs[picks], axis=0)[cut : n - cut].mean(axis=0)  # [500, studies]
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return _held(low, high, scores.middle())


def mean_coverage(scores: Scores, n: int, studies: int, random: np.random.Generator) -> float:
    """Return the coverage of ``mean_interval`` over ``n`` episodes."""
    return _held(*mean_interval(scores.draw(random, (n, studies))), scores.mean)


def rate_coverage(rates: Array, n: int) -> Array:
    """Return the coverage of ``rate_interval`` at each rate, ``[m]``, from the binomial distribution."""
    counts = np.arange(n + 1)
    low, high = np.array([rate_interval(count, n) for count in counts]).T[:, :, None]
    holds = (low <= rates) & (rates <= high)
    probabilities = scipy.stats.binom.pmf(counts[:, None], n, rates)
    coverage: Array = (probabilities * holds).sum(axis=0)
    return coverage


def stratified_coverage(
    mean: float, concentration: float, n_each: int, studies: int, random: np.random.Generator
) -> float:
    """Return the coverage of ``stratified_rate_interval`` over ten strata whose rates are fixed, but differ.

    Args:
        mean: Mean of the Beta distribution that the rates of strata have.
        concentration: Sum of its parameters; the smaller, the more the rates differ.
        n_each: Samples of each stratum.
        studies: Number of studies; each tenth of them has rates of its own.
        random: Random numbers.
    """
    strata, held = np.repeat(np.arange(10), n_each), 0
    for study in range(studies):
        if study % (studies // 10) == 0:
            rates = random.beta(mean * concentration, (1 - mean) * concentration, 10)
        low, high = stratified_rate_interval(random.random(len(strata)) < rates[strata], strata)
        held += low <= rates.mean() <= high
    return held / studies


def superiority_coverage(
    probability: float, spread: float, n: int, n_other: int, studies: int, random: np.random.Generator
) -> float:
    """Return the coverage of ``superiority_interval`` for normal scores.

    Args:
        probability: That a run of the one beats a run of the other.
        spread: Standard deviation of the other's scores, in that of the one's.
        n: Runs of the one.
        n_other: Runs of the other.
        studies: Number of studies.
        random: Random numbers.
    """
    ahead = scipy.stats.norm.ppf(probability) * np.hypot(1, spread)
    ours, theirs = random.normal(ahead, 1, (n, 1, studies)), random.normal(0, spread, (1, n_other, studies))
    won = (ours > theirs).sum(axis=(0, 1))
    low, high = np.array([superiority_interval(count, n, n_other) for count in range(n * n_other + 1)]).T
    return _held(low[won], high[won], probability)


def profile_coverage(n: int, studies: int, random: np.random.Generator) -> float:
    """Return how often the whole true profile of uniform scores is within ``profile_margin`` of that of ``n`` runs."""
    runs = np.sort(random.random((n, studies)), axis=0)
    above, at_least = 1 - np.arange(1, n + 1) / n, 1 - np.arange(n) / n  # the profile just right and left of a run
    off = np.maximum(np.abs(above[:, None] - (1 - runs)), np.abs(at_least[:, None] - (1 - runs))).max(axis=0)
    return float((off <= profile_margin(n)).mean())
