"""Interquartile means over runs (Agarwal et al. 2021, arXiv:2108.13264), and their 95 % intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

__all__ = ["interquartile_interval", "interquartile_mean"]

Array = NDArray[np.float64]

_ENOUGH = 10
"""Runs from which the interval takes its width from the middle half of them; that of fewer varies too much."""


def interquartile_mean(runs: ArrayLike) -> Array:
    """Return the mean of the middle half of the runs, ``[n, ...] -> [...]``, as ``rliable`` does.

    A quarter of the runs, rounded down, is left out at each end: none of three, one of five, two of ten.

    Raises:
        ValueError: No runs.
    """
    x = _sorted(runs)
    cut = len(x) // 4
    middle: Array = x[cut : len(x) - cut].mean(axis=0)  # SciPy's trim_mean is 20 times slower on so few
    return middle


def interquartile_interval(runs: ArrayLike, bounds: tuple[float, float] | None = None) -> tuple[Array, Array]:
    """Return a 95 % interval of the interquartile mean: the mean of the middle half of all runs that there could be.

    Of ten or more runs it is Tukey and McLaughlin's: ``s_w sqrt((n - 1) / (h (h - 1)))`` times Student's quantile with
    ``h - 1`` degrees of freedom on each side, where ``h`` runs are in the middle and ``s_w`` is the standard deviation
    after all others are set to the nearest of them (Yuen 1974, Biometrika 61); ours is ``1 + 1 / n`` times as wide. Of
    fewer runs it is ``s / sqrt(n)`` times Student's quantile with ``n - 1`` degrees of freedom, 1.1 times as wide, and
    1.15 times for 8 and 9 runs. We chose these factors by simulation.

    Coverage: 93 to 97 % for 3, 5 and 10 runs whose scores are normal, uniform, exponential, or bounded and skewed
    (Beta(8, 2), Beta(9, 1), Beta(19, 1)), also if one run in ten fails altogether. It is 87 to 93 % if scores pile up
    at both ends, some runs learning everything and others nothing: Beta(0.5, 0.5) and Beta(1.8, 0.2).

    Args:
        runs: Scores of independent runs, ``[n, ...]``.
        bounds: The least and the greatest possible score; the interval is clipped to them.

    Returns:
        Lower and upper ends, ``[...]`` each; NaN for a single run, and where the runs that count are all equal.

    Raises:
        ValueError: No runs.
    """
    x = _sorted(runs)
    n = len(x)
    cut = n // 4
    h = n - 2 * cut
    if n == 1:
        half = np.full(x.shape[1:], np.nan)
    elif n < _ENOUGH:
        factor = 1.1 if n < 8 else 1.15  # of 8 or 9 runs two are left out at each end
        half = factor * float(stdtrit(n - 1, 0.975)) * x.std(axis=0, ddof=1) / math.sqrt(n)
    else:
        spread = np.clip(x, x[cut], x[n - cut - 1]).std(axis=0, ddof=1)
        half = (1 + 1 / n) * float(stdtrit(h - 1, 0.975)) * spread * math.sqrt((n - 1) / (h * (h - 1)))
    counted = x if n < _ENOUGH else x[cut : n - cut]
    half = np.where(np.ptp(counted, axis=0) > 0, half, np.nan)
    middle = x[cut : n - cut].mean(axis=0)
    low, high = (-np.inf, np.inf) if bounds is None else bounds
    return np.clip(middle - half, low, high), np.clip(middle + half, low, high)


def _sorted(runs: ArrayLike) -> Array:
    x = np.asarray(runs, dtype=float)
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"runs needs the score of at least one run, [n, ...]; got the shape {list(x.shape)}")
    ordered: Array = np.sort(np.where(np.isnan(x).any(axis=0), np.nan, x), axis=0)  # NaN would count as the greatest
    return ordered
