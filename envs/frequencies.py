"""Do two lists of outcomes come up equally often, in many states at once? Tests of tables of counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, ndtr  # as chi2.sf and norm.sf, whose module takes a second to import

__all__ = ["Counts", "frequencies_differ", "means_differ", "shift_seen"]

_SIGNIFICANCE = 1e-4  # of each test
_ERRORS = 6.0  # standard errors of a shift that is seen 19 times in 20: the test's own and 1.6 more

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Counts:
    """How often outcomes came up in some states.

    Attributes:
        state: Number of the state of each entry, ``[k]``.
        outcome: Number of the outcome of each entry, ``[k]``.
        count: How often it came up there, ``[k]``.
    """

    state: Integers
    outcome: Integers
    count: Integers


def frequencies_differ(first: Counts, second: Counts, n_states: int) -> tuple[bool, float]:
    """Return whether outcomes come up more often in one of two samples, and the weight of the evidence.

    Two tests: the sum of the chi-squared statistics of all states, which sees a large difference anywhere, and the
    frequency of each state's most frequent outcome, summed over the states, which sees a small one everywhere.

    Args:
        first: Counts of the first sample.
        second: Counts of the second sample, from the same states.
        n_states: Number of states; each has been seen in both samples.

    Returns:
        Whether they differ, and ``sum n m / (n + m)`` over the states.
    """
    if not n_states:
        return False, 0.0
    keys = np.concatenate([np.stack([each.state, each.outcome], axis=1) for each in (first, second)])
    entries, place = np.unique(keys, axis=0, return_inverse=True)
    place = place.reshape(-1)
    cut = len(first.state)
    ours = np.bincount(place[:cut], weights=first.count, minlength=len(entries))
    theirs = np.bincount(place[cut:], weights=second.count, minlength=len(entries))
    state = entries[:, 0]
    n, m = (np.bincount(state, weights=each, minlength=n_states) for each in (ours, theirs))
    share = n / (n + m)
    both = ours + theirs
    expected = both * share[state], both * (1 - share[state])
    parts = (ours - expected[0]) ** 2 / expected[0] + (theirs - expected[1]) ** 2 / expected[1]
    told = (n >= 2) | (m >= 2)  # of one visit each nothing can be said
    statistic = np.bincount(state, weights=parts, minlength=n_states) * (n + m - 1) / (n + m)
    freedom = np.bincount(state, minlength=n_states) - 1
    weight = n * m / (n + m)
    unlike = freedom[told].sum() > 0 and chdtrc(freedom[told].sum(), statistic[told].sum()) < _SIGNIFICANCE
    # The most frequent outcome of each state, in both samples together.
    order = np.lexsort((-both, state))
    mode = order[np.r_[True, state[order][1:] != state[order][:-1]]]
    p = both[mode] / (n + m)
    variance = float((weight * p * (1 - p)).sum())
    shift = float((weight * (ours[mode] / n - theirs[mode] / m)).sum())
    uneven = variance > 0 and 2 * ndtr(-abs(shift) / np.sqrt(variance)) < _SIGNIFICANCE
    return bool(unlike or uneven), float(weight.sum())


def means_differ(first: Floats, second: Floats, counts: tuple[Integers, Integers], variance: float) -> bool:
    """Return whether means over the visits of some states differ between two samples.

    Args:
        first: Means of the first sample, ``[n_states]``.
        second: Means of the second sample.
        counts: Visits behind them, each ``[n_states]``.
        variance: Variance of the number that one visit gives.
    """
    if not len(first) or variance <= 0:
        return bool(len(first)) and not np.allclose(first, second)
    weight = counts[0] * counts[1] / (counts[0] + counts[1])
    gap = first - second
    unlike = chdtrc(len(gap), float((weight * gap**2).sum()) / variance) < _SIGNIFICANCE
    uneven = 2 * ndtr(-abs(float((weight * gap).sum())) / np.sqrt(variance * weight.sum())) < _SIGNIFICANCE
    return bool(unlike or uneven)


def shift_seen(weight: float) -> float:
    """Return the shift of a probability, in all states alike, that the tests see 19 times in 20."""
    return float("inf") if weight <= 0 else _ERRORS / 2 / float(np.sqrt(weight))
