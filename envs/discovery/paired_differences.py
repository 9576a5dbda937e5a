"""Do two samples have the same conditional mean? Differences along functions of the state, over whole episodes.

For a function ``h`` and rows ``i`` the statistic is ``D(h) = mean_i [h(x_i) r_i - h(x'_i) r'_i]``: ``r`` is what a
model leaves of a step at ``x``, ``r'`` what it leaves of the moved step at ``x'``. Noise averages out, a difference of
the conditional means does not. Steps of one episode may depend on each other, so that episodes count as a whole.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

__all__ = ["Differences", "cells", "indicators", "orthonormal", "paired_differences"]

_DRAWS = 400
_QUANTILE = 0.99
_SIGNIFICANCE = 0.003  # of all differences of one comparison together

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Functions = tuple[Floats, Floats]


class Differences(NamedTuple):
    """Differences of conditional means, for each of ``J`` numbers that were compared.

    Attributes:
        least: A root mean square that the difference has at least, ``[J]``; 0 where chance explains all.
        most: One that it has at most, unless it varies faster than the functions, ``[J]``.
        seen: Whether a difference along one function is more than chance makes in 3 of 1,000 such comparisons, ``[J]``.
    """

    least: Floats
    most: Floats
    seen: NDArray[np.bool_]


def paired_differences(
    functions: Functions, left: Floats, left_moved: Floats, episode: Integers, negligible: float
) -> Differences:
    """Return the differences of two samples along functions that are orthonormal on both together.

    Args:
        functions: ``h(x)`` and ``h(x')``, ``[N, K]`` each, with ``mean h_k h_l`` 1 for ``k = l`` and 0 else.
        left: ``r``, ``[N, J]``.
        left_moved: ``r'``, ``[N, J]``.
        episode: Number of the episode of each row, ``[N]``.
        negligible: Differences along a function that are smaller count as none.
    """
    of, moved = functions
    # What both have in common says nothing, and would count as chance.
    common = (of.T @ left + moved.T @ left_moved) / (2 * len(left))
    left, left_moved = left - of @ common, left_moved - moved @ common
    order = np.argsort(episode, kind="stable")
    _, first = np.unique(episode[order], return_index=True)
    rows = np.split(order, first[1:])
    each = np.stack([of[i].T @ left[i] - moved[i].T @ left_moved[i] for i in rows]) / len(episode)
    difference = each.sum(axis=0)
    error = np.sqrt((each**2).sum(axis=0))
    # Where nothing differs, the sign of an episode's part is as good as its opposite: the wild bootstrap (Mammen 1993).
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(_DRAWS, len(rows)))
    centred = (each - difference / len(rows)).reshape(len(rows), -1)
    squares = ((signs @ centred).reshape(_DRAWS, *difference.shape) ** 2).sum(axis=1)
    usual, large = squares.mean(axis=0), np.quantile(squares, _QUANTILE, axis=0)
    found = (difference**2).sum(axis=0) - usual
    bound = norm.isf(_SIGNIFICANCE / (2 * difference.size)) * error
    seen = np.abs(difference) > np.maximum(bound, negligible)
    return Differences(
        np.sqrt(np.maximum(found - (large - usual), 0)),
        np.sqrt(np.maximum(found, 0) + (large - usual)),
        np.asarray(seen.any(axis=0)),
    )


def orthonormal(of: Floats, moved: Floats) -> Functions:
    """Return combinations of functions that are orthonormal on both samples together."""
    gram = (of.T @ of + moved.T @ moved) / (2 * len(of))
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-4 * values.max()
    basis = vectors[:, kept] / np.sqrt(values[kept])
    return of @ basis, moved @ basis


def cells(of: Floats, moved: Floats, halvings: int) -> tuple[Integers, Integers]:
    """Return a number for each row: the cell of its state, where cells hold equally many rows of both samples.

    Each cell is halved at the median of its widest coordinate, and of the next coordinate in turn.

    Args:
        of: States ``[N, n]``.
        moved: Moved states ``[N, n]``.
        halvings: Of each cell; there are ``2**halvings`` cells.
    """
    rows = np.concatenate([of, moved])
    rows = rows / np.maximum(rows.std(axis=0), 1e-300)
    label = np.zeros(len(rows), dtype=np.int64)
    for level in range(halvings):
        halved = 2 * label
        for cell in range(2**level):
            inside = np.flatnonzero(label == cell)
            if len(inside) < 2:
                continue
            widest = int(np.argmax(rows[inside].std(axis=0))) if level % 2 == 0 else (level // 2) % rows.shape[1]
            values = rows[inside, widest]
            halved[inside] += values > np.median(values)
        label = halved
    return label[: len(of)], label[len(of) :]


def indicators(label: Integers, label_moved: Integers) -> Functions:
    """Return the functions that are constant in one cell and 0 elsewhere, orthonormal."""
    known, place = np.unique(np.concatenate([label, label_moved]), return_inverse=True)
    place = place.reshape(-1)
    size = np.bincount(place) / len(place)
    functions = (place[:, None] == np.arange(len(known))) / np.sqrt(size)
    return functions[: len(label)], functions[len(label) :]
