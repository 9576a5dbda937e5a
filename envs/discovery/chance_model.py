"""A model of a world with chance: what happens on average, and in which steps something unusual happens.

Least squares on functions of the state, for each action on its own, fitted to the steps that are like most others. A
jump, a collision or an end is no business of an average: such steps are left out of the fit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from equirl.envs.transitions import Transitions

__all__ = ["ChanceModel", "Polynomials"]

_BENT = 60  # random features
_PAIRS = 100  # products of two coordinates
_FARTHEST = 5.0  # root mean squares; beyond, a coordinate counts as that
_TRIM = 6.0  # deviations of the others, from which a step is unusual
_ROUNDS = 8
_MEDIAN = 0.6745  # of the absolute value of a normal number
_PENALTY = 1e-5
_HARDLY = 0.95  # share of the steps in which a coordinate that hardly ever changes does not
_LEAST_EPISODES = 60
_MOST_EPISODES = 300
_STRETCH = 50  # steps, in place of episodes that are longer

Floats = NDArray[np.float64]


class Polynomials:
    """Functions of states, and of ``Box`` actions: 1, the coordinates, their products, random ones; for each action.

    They are taken around 0, so that a signed permutation carries the polynomials among them onto each other.

    Args:
        inputs: States ``[N, n]``, or states and ``Box`` actions together.
        n_actions: Number of ``Discrete`` actions; 0 for ``Box``.
        degree: 1 or 2.
        bent: Number of random functions besides.
    """

    def __init__(self, inputs: Floats, n_actions: int, degree: int, bent: int = 0) -> None:
        random, size = np.random.default_rng(0), inputs.shape[1]
        self._unit = np.maximum(np.sqrt((inputs**2).mean(axis=0)), 1e-9)
        self._n_actions, self._degree, self._bent = n_actions, degree, bent
        self._weights = random.normal(size=(size, bent)) * random.choice([0.25, 0.5, 1.0], size=bent) * 2 / size**0.5
        self._shift = random.uniform(-2, 2, size=bent)

    def __call__(self, inputs: Floats, actions: NDArray[Any]) -> Floats:
        """Return the functions' values, ``[N, K]``."""
        x = np.clip(inputs / self._unit, -_FARTHEST, _FARTHEST)
        columns = [np.ones((len(x), 1)), x]
        if self._degree == 2:
            columns.append((x[:, :, None] * x[:, None])[:, *np.triu_indices(x.shape[1])][:, :_PAIRS])
        if self._bent:
            columns.append(np.abs(x))
            first, second = np.triu_indices(x.shape[1], 1)
            columns.append(np.hypot(x[:, first[:_PAIRS]], x[:, second[:_PAIRS]]))
            columns.append(np.tanh(x @ self._weights + self._shift))
        values = np.concatenate(columns, axis=1)
        if not self._n_actions:
            return values
        return np.concatenate([values * (actions == a)[:, None] for a in range(self._n_actions)], axis=1)


class ChanceModel:
    """What happens on average. Each half of the episodes is predicted by a model of the other half.

    Attributes:
        outcomes: ``(s' - s, r)``, ``[N, n + 1]``.
        usual: Which steps are like most others, ``[N]``.
        told: Which outcomes are predicted, ``[n + 1]``: not what never changes, nor what hardly ever does.
        rare: Which outcomes hardly ever change, ``[n + 1]``.
        spread: Standard deviation of the outcomes of usual steps, ``[n + 1]``.
        unexplained: What the model leaves of usual steps, as a share of the spread, ``[n + 1]``.
        episode: Number of the episode of each step, ``[N]``; of a stretch of 50 steps where episodes are few, and of
            several episodes together where they are many.
    """

    def __init__(self, data: Transitions, seed: int) -> None:
        self.data, self.n = data, data.states.shape[1]
        self.outcomes = np.concatenate([data.next_states - data.states, data.rewards[:, None]], axis=1)
        size = np.concatenate([np.abs(data.states).max(axis=0), np.abs(data.rewards).max(keepdims=True)])
        stays = np.abs(self.outcomes - np.median(self.outcomes, axis=0)) <= 1e-6 * size
        self.rare = (np.ptp(self.outcomes, axis=0) > 1e-6 * size) & (stays.mean(axis=0) >= _HARDLY)
        self.told = (np.ptp(self.outcomes, axis=0) > 1e-6 * size) & ~self.rare
        self.episode = np.cumsum(data.times == 0)
        if self.episode[-1] < _LEAST_EPISODES:
            self.episode = np.cumsum(data.times % _STRETCH == 0)
        self.episode = (self.episode - 1) * min(_MOST_EPISODES, self.episode[-1]) // self.episode[-1]
        first = np.random.default_rng(seed).random(int(self.episode.max()) + 1) < 0.5
        self._half = first[self.episode].astype(np.int64)
        inputs = self.inputs(data.states, data.actions)
        self._functions = Polynomials(inputs, data.n_actions, 2, _BENT)
        values = self._functions(inputs, data.actions)
        self.usual = self._trimmed(values, ~data.ends & ~(self.rare & ~stays).any(axis=1))
        events = np.stack([~self.usual, data.ends], axis=1)
        self.rare_outcomes = np.concatenate([self.outcomes * self.rare, events], axis=1)
        halves = [self._half != half for half in (0, 1)]
        self._usual_solutions = [_solved(values, self.outcomes, self.usual & half) for half in halves]
        self._rare_solutions = [_solved(values, self.rare_outcomes, half) for half in halves]
        self.spread = np.maximum(self.outcomes[self.usual].std(axis=0), 1e-300)
        left = (self.outcomes - self.predict(data.states, data.actions))[self.usual]
        self.unexplained = np.sqrt((left**2).mean(axis=0)) / self.spread

    def inputs(self, states: Floats, actions: NDArray[Any]) -> Floats:
        """Return what functions of steps read: states, with ``Box`` actions beside them."""
        return states if self.data.n_actions else np.concatenate([states, actions], axis=1)

    def predict(self, states: Floats, actions: NDArray[Any], rare: bool = False) -> Floats:
        """Return what usually follows each of the ``N`` steps, had it been this one, by the other half's model.

        Args:
            states: ``[N, n]``.
            actions: ``[N]`` or ``[N, m]``.
            rare: Return instead what hardly ever changes, the probability of an unusual step, and of an end.

        Returns:
            Outcomes ``[N, n + 1]``; with ``rare`` ``[N, n + 3]``.
        """
        values = self._functions(self.inputs(states, actions), actions)
        first, second = self._rare_solutions if rare else self._usual_solutions
        return np.where(self._half[:, None] == 0, values @ first, values @ second)

    def near(self, states: Floats) -> NDArray[np.bool_]:
        """Return which of ``N`` moved states are as near to states of the other half as nine in ten of the steps' own.

        Args:
            states: The moved state of each step, ``[N, n]``.
        """
        unit = np.maximum(self.data.states.std(axis=0), 1e-9)
        distance, own = np.empty(len(states)), np.empty(len(states))
        for half in (0, 1):
            rows, seen = self._half == half, cKDTree(self.data.states[self._half != half] / unit)
            distance[rows] = seen.query(states[rows] / unit)[0]
            own[rows] = seen.query(self.data.states[rows] / unit)[0]
        return np.asarray(distance <= np.quantile(own, 0.9) + 1e-12)

    def predict_new(self, states: Floats, actions: NDArray[Any]) -> Floats:
        """Return what usually follows steps that are not among the data, ``[M, n + 1]``."""
        values = self._functions(self.inputs(states, actions), actions)
        return np.asarray(values @ (self._usual_solutions[0] + self._usual_solutions[1]) / 2)

    def is_usual(self, left: Floats) -> NDArray[np.bool_]:
        """Return which steps are usual by what the model leaves of them, ``[M]``."""
        return np.asarray((np.abs(left) <= 1.5 * _TRIM * self.unexplained * self.spread)[:, self.told].all(axis=1))

    def _trimmed(self, values: Floats, allowed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which steps are like most others: fitted again and again without those that are not."""
        data, usual = self.data, allowed
        kind = data.actions if data.n_actions else np.zeros(len(data), dtype=np.int64)
        for _ in range(_ROUNDS):
            left = np.abs(self.outcomes - values @ _solved(values, self.outcomes, usual))
            least = 1e-3 * self.outcomes[usual].std(axis=0) + 1e-300
            bound = np.full_like(left, np.inf)
            for a in np.unique(kind[usual]):
                of = kind == a
                bound[of] = _TRIM * np.maximum(np.median(left[of & usual], axis=0) / _MEDIAN, least)
            before, usual = usual, allowed & (left <= bound)[:, self.told].all(axis=1)
            if np.array_equal(before, usual):
                break
        return usual


def _solved(values: Floats, targets: Floats, rows: NDArray[np.bool_]) -> Floats:
    gram = values[rows].T @ values[rows]
    gram[np.diag_indices_from(gram)] += _PENALTY * max(1, int(rows.sum()))
    return np.asarray(np.linalg.solve(gram, values[rows].T @ targets[rows]))
