"""Worlds whose states recur: what comes of each state and action, compared exactly or by how often it comes up."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from equirl.envs.frequencies import Counts, frequencies_differ, means_differ
from equirl.envs.transitions import Transitions

__all__ = ["Comparison", "Outcomes", "action_orders"]

Integers = NDArray[np.int64]

_DIGITS = 8  # of rewards, in units of the largest
_VISITS = 5  # of a pair and its image, which are to have the same most frequent outcome
_CLEAR = 0.6  # share of a pair's visits that gave its most frequent outcome
_MOST_UNLIKE = 0.75  # of those pairs may have another one, before a candidate is refused without a test
_MOST_ORDERS = 1000


@dataclass(frozen=True)
class Comparison:
    """What came of comparing ``(s, a)`` with ``(gs, b)``.

    Attributes:
        pairs: Pairs of state and action compared for each ``a`` and ``b``, ``[|A|, |A|]``.
        wrong: Those that contradict the candidate; where outcomes vary 1 for frequencies that differ.
        weight: Visits that count for frequencies, ``sum n m / (n + m)`` over the pairs.
    """

    pairs: Integers
    wrong: Integers
    weight: NDArray[np.float64]


class Outcomes:
    """The transitions of a world whose states recur, by state and action.

    Rewards that vary though state, action and next state are the same are compared by their means.

    Rewards that change with the step count of the episode in one straight line, as MiniGrid's do, are compared after
    that line is taken off.

    Attributes:
        states: The distinct states, ``[U, n]``.
        number_of: The number of each, by its bytes.
        before: Number of the state before each transition, ``[N]``.
        n_actions: Number of actions.
        n_pairs: Number of pairs of state and action that were seen.
        visits: How often each pair was seen, ``[U * |A|]``.
        varies: Whether one pair had several outcomes.
        slope: What a step of the episode adds to rewards.
        noisy: Whether rewards vary though state, action and next state are the same.
    """

    def __init__(self, data: Transitions) -> None:
        self.number_of: dict[bytes, int] = {}
        rows = np.concatenate([data.states, data.next_states]) + 0.0  # no -0, whose bytes are others
        number = np.array([self.number_of.setdefault(row.tobytes(), len(self.number_of)) for row in rows])
        first = np.unique(number, return_index=True)[1]
        self.states = rows[first]
        self.before, self.after = number[: len(data)], number[len(data) :]
        self.n_actions = data.n_actions
        self._pair = self.before * self.n_actions + data.actions
        self.slope, rewards = _without_time(data, self._pair, self.after)
        self.noisy, self._variance = _noise(rewards, self._pair, self.after, data.ends)
        kinds = np.stack([0 * rewards if self.noisy else rewards, data.ends], axis=1)
        self._kinds, kind = np.unique(kinds, axis=0, return_inverse=True)
        self._outcome = self.after * len(self._kinds) + kind.reshape(-1)
        entries, self._count = np.unique(np.stack([self._pair, self._outcome], axis=1), axis=0, return_counts=True)
        self._of_pair, self._what = entries.T
        pairs, start, sizes = np.unique(self._of_pair, return_index=True, return_counts=True)
        self.n_pairs = len(pairs)
        self.visits = np.bincount(self._pair, minlength=len(self.states) * self.n_actions)
        self.varies = bool((sizes > 1).any()) or self.noisy
        total = np.bincount(self._pair, weights=rewards, minlength=len(self.visits))
        self._mean = total / np.maximum(self.visits, 1)
        self._first = np.full(len(self.states) * self.n_actions, -1)  # the only outcome, or the most frequent one
        order = np.lexsort((-self._count, self._of_pair))  # the most frequent one of each pair, where they vary
        self._first[pairs] = self._what[order[start]]
        self._clear = np.zeros(len(self._first), dtype=bool)  # pairs of which one outcome is far the most frequent
        self._clear[pairs] = self._count[order[start]] >= _CLEAR * self.visits[pairs]
        self._start, self._size = np.zeros_like(self._first), np.zeros_like(self._first)
        self._start[pairs], self._size[pairs] = start, sizes

    @property
    def n_repeats(self) -> int:
        """Number of transitions from a pair of state and action that was seen before."""
        return len(self._pair) - self.n_pairs

    def image(self, moved: NDArray[np.float64]) -> Integers:
        """Return the numbers of states ``[k, n]``; -1 where one was never seen."""
        rows = np.ascontiguousarray(moved) + 0.0
        return np.array([self.number_of.get(row.tobytes(), -1) for row in rows])

    def compare(self, image: Integers) -> Comparison:
        """Compare every pair with its image under a map of states, for all pairs of actions.

        Args:
            image: Number of the state that each state becomes, ``[U]``; -1 where it was never seen.
        """
        n = self.n_actions
        found = Comparison(np.zeros((n, n), np.int64), np.zeros((n, n), np.int64), np.zeros((n, n)))
        known = np.flatnonzero(image >= 0)
        for a, b in itertools.product(range(n), repeat=2):
            ours, theirs = known * n + a, image[known] * n + b
            both = (self._first[ours] >= 0) & (self._first[theirs] >= 0)
            ours, theirs = ours[both], theirs[both]
            found.pairs[a, b] = len(ours)
            if self.varies:
                found.wrong[a, b], found.weight[a, b] = self._unlike(image, ours, theirs)
            else:
                carried = self._carried(image, self._first[ours])
                found.wrong[a, b] = int((carried != self._first[theirs]).sum())
        return found

    def contradicted(self, image: Integers, order: Integers) -> tuple[NDArray[np.bool_], Integers]:
        """Compare all pairs of a world whose outcomes do not vary with their images under one element.

        Pair ``k`` is the state ``k // |A|`` with the action ``k % |A|``.

        Args:
            image: Number of the state that each state becomes, ``[U]``; -1 where it was never seen.
            order: Which action each action becomes, ``[|A|]``.

        Returns:
            Which pairs were compared, ``[U * |A|]``, and the numbers of those that contradict the element.
        """
        n = self.n_actions
        ours = np.arange(len(self._first))
        theirs = image[ours // n] * n + order[ours % n]
        both = (image[ours // n] >= 0) & (self._first >= 0)
        both[both] = self._first[theirs[both]] >= 0
        wrong = self._carried(image, self._first[both]) != self._first[theirs[both]]
        return both, np.flatnonzero(both)[wrong]

    def _carried(self, image: Integers, outcomes: Integers) -> Integers:
        after, kind = np.divmod(outcomes, len(self._kinds))
        return np.where(image[after] >= 0, image[after] * len(self._kinds) + kind, -1)

    def _unlike(self, image: Integers, ours: Integers, theirs: Integers) -> tuple[int, float]:
        """Return whether frequencies, or means of rewards, differ, and the weight of the evidence."""
        often = (self.visits[ours] >= _VISITS) & (self.visits[theirs] >= _VISITS)
        often &= self._clear[ours] & self._clear[theirs]
        if often.sum() >= _VISITS:
            other = self._carried(image, self._first[ours[often]]) != self._first[theirs[often]]
            if other.mean() > _MOST_UNLIKE:
                return 1, 0.0
        unlike, weight = frequencies_differ(self._counts(ours, image), self._counts(theirs), len(ours))
        if self.noisy and not unlike:
            means, visits = (self._mean[ours], self._mean[theirs]), (self.visits[ours], self.visits[theirs])
            unlike = means_differ(*means, visits, self._variance)
        return int(unlike), weight

    def _counts(self, pairs: Integers, image: Integers | None = None) -> Counts:
        """Return how often what came of some pairs, carried by a map of states if one is given."""
        sizes = self._size[pairs]
        state = np.repeat(np.arange(len(pairs)), sizes)
        place = (
            np.arange(len(state)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(self._start[pairs], sizes)
        )
        outcome = self._what[place]
        if image is not None:
            carried = self._carried(image, outcome)
            outcome = np.where(carried < 0, -2 - outcome, carried)  # to a state that was never seen
        return Counts(state, outcome, self._count[place])


def action_orders(possible: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Return permutations that take each action to a possible one, those that move few actions first; at most 1,000."""
    from scipy.sparse import csr_array  # slow to import
    from scipy.sparse.csgraph import maximum_bipartite_matching

    def completes(chosen: tuple[int, ...]) -> bool:
        rest = np.delete(possible[len(chosen) :], chosen, axis=1)
        return not len(rest) or bool((maximum_bipartite_matching(csr_array(rest.astype(int))) >= 0).all())

    def extend(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == len(possible):
            yield chosen
            return
        for b in sorted(np.flatnonzero(possible[len(chosen)]).tolist(), key=lambda b: b != len(chosen)):
            if b not in chosen and completes((*chosen, b)):
                yield from extend((*chosen, b))

    found = list(itertools.islice(extend(()), _MOST_ORDERS))
    return sorted(found, key=lambda order: sum(a != b for a, b in enumerate(order)))


def _without_time(data: Transitions, pair: Integers, after: Integers) -> tuple[float, NDArray[np.float64]]:
    """Return the slope of rewards over the step count, 0 if there is no line, and rewards without it, scaled to 1."""
    unit = max(float(np.abs(data.rewards).max()), 1e-300)
    scaled = data.rewards / unit
    rounded = np.round(scaled, _DIGITS)
    _, group = np.unique(np.stack([pair, after, data.ends], axis=1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    counts = np.bincount(group)
    means = [np.bincount(group, weights=part) / counts for part in (scaled, data.times.astype(float))]
    reward, time = scaled - means[0][group], data.times - means[1][group]
    if not (np.abs(reward) > 1e-6).any():
        return 0.0, rounded
    moving = np.isin(group, group[np.abs(reward) > 1e-6])
    slope = float((time[moving] * reward[moving]).sum() / max(float((time[moving] ** 2).sum()), 1e-12))
    if np.abs(reward[moving] - slope * time[moving]).max() > 1e-5:
        return 0.0, rounded
    values, often = np.unique(rounded, return_counts=True)
    usual = values[often.argmax()]
    taken_off = np.where(rounded == usual, rounded, np.round(scaled - slope * data.times, 5))
    return slope * unit, taken_off


def _noise(
    rewards: NDArray[np.float64], pair: Integers, after: Integers, ends: NDArray[np.bool_]
) -> tuple[bool, float]:
    """Return whether rewards vary though nothing else does, and the variance of the reward of a pair."""
    same = np.unique(np.stack([pair, after, ends], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    noisy = bool((np.abs(_apart(rewards, same)) > 1e-6).any())
    freedom = max(len(rewards) - len(np.unique(pair)), 1)
    return noisy, float((_apart(rewards, pair) ** 2).sum()) / freedom


def _apart(values: NDArray[np.float64], group: Integers) -> NDArray[np.float64]:
    """Return how far each value is from the mean of its group."""
    return np.asarray(values - (np.bincount(group, weights=values) / np.maximum(np.bincount(group), 1))[group])
