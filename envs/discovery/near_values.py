"""Permutations of ``Discrete`` values that nearly hold: spread from one value to its neighbours, and so on."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict, deque
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from equirl.envs.discovery.report import Element
from equirl.envs.transitions import Transitions
from equirl.generated_tables import Step

__all__ = ["near_values"]

_MOST_STARTS = 8000  # pairs of a first value's image and an order of the actions
_FIRST = 2  # values to begin with
_LEAST_MAPPED = 0.9  # share of the values that a spread must reach
_FAR = 0.75  # summed difference of probabilities over the actions, from which two neighbours are unlike
_LOOKED_AT, _MOST_LOST = 10, 0.35  # values after which a spread is given up if so many neighbours have no partner
_MOST_BROKEN = 0.2  # mean probability of another outcome
_MOST_KEPT = 12

Kind: TypeAlias = tuple[int, float, bool]


def near_values(data: Transitions) -> list[Element]:
    """Return permutations of the values of a ``Discrete`` observation under which most outcomes agree, best first.

    A value is given an image, and with an order of the actions the neighbours of both are matched: those that come
    after the matching actions equally often. Their neighbours follow, until all values have an image. What happens in
    the few places where the world is not symmetric does not stop this, as the values there are reached another way.

    Args:
        data: Transitions with ``Discrete`` actions, observations of one whole number.
    """
    world = _World(data)
    n = len(world.inner)
    if not n or n * math.factorial(min(data.n_actions, 9)) > _MOST_STARTS:
        return []
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    size = int(max(data.states.max(), data.next_states.max())) + 1
    for first, image, order in itertools.product(
        world.inner[:_FIRST], world.inner, itertools.permutations(range(data.n_actions))
    ):
        mapped = world.spread(first, image, order)
        if mapped is None:
            continue
        to = _completed(mapped, size)
        if to == tuple(range(size)):
            continue
        broken = world.broken(to, order)
        if broken <= _MOST_BROKEN and (to not in best or broken < best[to][0]):
            best[to] = broken, order
    ordered = sorted(best.items(), key=lambda each: each[1][0])[:_MOST_KEPT]
    return [Element("", Step(to, None), Step(order, None), broken, len(data)) for to, (broken, order) in ordered]


class _World:
    """How often which value comes after each value and action.

    Attributes:
        inner: The values that the world goes on from, those seen most often first.
    """

    def __init__(self, data: Transitions) -> None:
        before, after = data.states[:, 0].astype(int), data.next_states[:, 0].astype(int)
        unit = max(float(np.abs(data.rewards).max()), 1e-300)
        rewards = np.round(data.rewards / unit, 8) + 0.0
        self._n_actions = data.n_actions
        visits = Counter(before.tolist())
        self.inner = sorted(visits, key=lambda v: -visits[v])
        self._values = len(set(before.tolist()) | set(after.tolist()))
        seen: dict[tuple[int, int], Counter[Kind]] = defaultdict(Counter)
        rows = zip(*(x.tolist() for x in (before, data.actions, after, rewards, data.ends)), strict=True)
        for v, a, n, reward, end in rows:
            seen[v, a][n, reward, end] += 1
        self._outcomes = {
            pair: {what: k / sum(counted.values()) for what, k in counted.items()} for pair, counted in seen.items()
        }
        self._profiles: dict[int, dict[int, NDArray[np.float64]]] = defaultdict(dict)
        for (v, a), outcomes in self._outcomes.items():
            for (n, _, _), p in outcomes.items():
                if n != v:
                    self._profiles[v].setdefault(n, np.zeros(data.n_actions))[a] += p

    def spread(self, first: int, image: int, order: tuple[int, ...]) -> dict[int, int] | None:
        """Return the images of the values, if one value has a given image; ``None`` where that leads nowhere."""
        from scipy.optimize import linear_sum_assignment  # slow to import

        mapped, taken, queue = {first: image}, {image}, deque([first])
        met, lost, looked_at = 0, 0, 0
        while queue:
            v = queue.popleft()
            here, there = self._profiles[v], self._profiles[mapped[v]]
            looked_at += 1
            met, lost = met + max(len(here), len(there)), lost + abs(len(here) - len(there))
            if here and there:
                mine = np.stack(list(here.values()))
                theirs = np.stack(list(there.values()))[:, list(order)]
                apart = np.abs(mine[:, None] - theirs[None]).sum(2)
                ours, others = list(here), list(there)
                for i, j in zip(*linear_sum_assignment(apart), strict=True):
                    n, m = ours[i], others[j]
                    if apart[i, j] >= _FAR:
                        lost += 1
                    elif n not in mapped and m not in taken:
                        mapped[n] = m
                        taken.add(m)
                        queue.append(n)
            if looked_at >= _LOOKED_AT and lost > _MOST_LOST * met:
                return None
        return mapped if len(mapped) >= _LEAST_MAPPED * self._values else None

    def broken(self, to: tuple[int, ...], order: tuple[int, ...]) -> float:
        """Return the mean probability of another outcome, over the pairs of value and action of which both were seen.

        All that were seen differ where none of the images were.
        """
        apart = []
        for (v, a), outcomes in self._outcomes.items():
            there = self._outcomes.get((to[v], order[a]))
            if there is None:
                continue
            moved = {(to[n], reward, end): p for (n, reward, end), p in outcomes.items()}
            apart.append(sum(abs(moved.get(k, 0) - there.get(k, 0)) for k in {*moved, *there}) / 2)
        return float(np.mean(apart)) if len(apart) >= len(self._outcomes) / 2 else 1.0


def _completed(mapped: dict[int, int], size: int) -> tuple[int, ...]:
    """Return a permutation of all values: those without an image stay, or take what is left."""
    to = dict(mapped)
    free = [w for w in range(size) if w not in set(mapped.values())]
    for v in range(size):
        if v not in to and v in free:
            to[v] = v
            free.remove(v)
    for v in range(size):
        if v not in to:
            to[v] = free.pop(0)
    return tuple(to[v] for v in range(size))
