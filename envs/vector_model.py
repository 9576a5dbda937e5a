"""A model of vector dynamics, fitted on half of the transitions, and how well a candidate agrees with it on the rest.

The model predicts ``y = (s' - s, r)`` by ridge regression on random features of ``s`` (and of a ``Box`` action); each
``Discrete`` action has some of its own. For a symmetry ``(P, A)``, predicting ``(P (s' - s), r)`` from ``(P s, A a)``
is as good as predicting ``y`` from ``(s, a)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.envs.transitions import Transitions
from equirl.generated_tables import Step

__all__ = ["VectorEvidence", "VectorModel", "moved"]

FEATURES = 500  # random ones
_OWN = 60  # of these, each action's own besides
_PRODUCTS = 200  # products of two coordinates
_PENALTIES = (1e-9, 1e-7, 1e-5, 1e-3)
_SCREENED = 300  # transitions on which most wrong candidates fall
_STRETCH = 50  # steps
_MOST_HELD = 3000
_LEAST_KNOWN = 0.5  # share of the moved states that must be as near to states seen as nine in ten of the others
_NEIGHBOURS = 5
_LEAST_EVENTS = 30  # ends, or special rewards: fewer say nothing about where they happen
CLEAR = 3.0  # standard errors of what events say
_LARGEST_LOSS = 0.05  # share of the events that may be missing where their images are
_LEAST_USUAL = 0.95  # share of rewards that are alike, where the others count as events
_MOST_VALUES = 8  # of such events: each is compared on its own

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class VectorEvidence:
    """How a candidate compares with the model on held-out transitions.

    Attributes:
        error: What the candidate adds to the error of a prediction, as a share of the spread of what is predicted; the
            worst coordinate, or the reward.
        ratio: Error of the prediction under the candidate over that without it; the worst of the above.
        outliers: Whether single transitions are predicted far worse than without it: a rule that holds in places only.
        away: Whether it carries most states to where none were seen; then nothing else is known.
        events: Whether ends, or special rewards, are elsewhere.
    """

    error: float
    ratio: float
    outliers: bool
    away: bool
    events: bool


def moved(rows: Floats, step: Step) -> Floats:
    """Return vectors ``[N, n]`` moved by one element."""
    result = np.empty_like(rows)
    result[:, list(step.to)] = rows * np.array(step.signs)
    return result


class VectorModel:
    """A model of the dynamics, and the transitions that were held out of its fit.

    Attributes:
        resolution: Error of the model as a share of the spread of what it predicts, for each coordinate and the reward.
        untold: Whether so few ends or special rewards were seen that nothing is said about them.
    """

    def __init__(self, data: Transitions, seed: int) -> None:
        random = np.random.default_rng(seed)
        # Whole stretches are held out: a step beside one that was fitted is predicted too well.
        stretch = np.cumsum(data.times % _STRETCH == 0)
        chosen = random.random(int(stretch.max()) + 1)[stretch] < 0.5
        self._data, self._fit = data, np.flatnonzero(chosen)
        self.held = random.permutation(np.flatnonzero(~chosen))[:_MOST_HELD]
        self.n = data.states.shape[1]
        inputs = self._inputs(data.states, data.actions)
        self._scale = np.maximum(inputs.std(0), 1e-9)
        size = inputs.shape[1]
        width = random.choice([0.25, 0.5, 1.0], size=FEATURES) / np.sqrt(size) * 2
        self._weights = random.normal(size=(size, FEATURES)) * width
        self._shift = random.uniform(-2, 2, size=FEATURES)
        targets = np.concatenate([data.next_states - data.states, data.rewards[:, None]], axis=1)
        self._targets = targets[self.held]
        self._solution = self._solved(self._features(inputs[self._fit], data.actions[self._fit]), targets[self._fit])
        self._spread = np.maximum(self._targets.std(0), 1e-300)
        # What changes by no more than a few last bits of single precision does not change.
        size = np.concatenate([np.abs(data.states).max(0), np.abs(data.rewards).max(keepdims=True)])
        self._fixed = np.ptp(targets, axis=0) <= 1e-6 * size
        held_actions = data.actions[self.held]
        self._residual = self.predict(data.states[self.held], held_actions) - self._targets
        # A reward that hardly ever differs is no regression's business: its place is compared, like that of ends.
        special = _special_rewards(data.rewards)
        self.rare_rewards = special is not None
        labels = [data.ends, *(special or [])]
        self._labels = [label for label in labels if label.sum() >= _LEAST_EVENTS]
        self.untold = any(0 < label.sum() < _LEAST_EVENTS for label in labels)
        self._unit = np.maximum(data.states.std(0), 1e-9)
        from scipy.spatial import cKDTree  # slow to import

        self._seen = cKDTree(data.states[self._fit] / self._unit)
        self._followed = cKDTree(data.next_states / self._unit)
        self._reached = cKDTree(data.next_states[self._fit] / self._unit)
        near = self._seen.query(data.states[self.held] / self._unit)[0]
        self._reach = float(np.quantile(near, 0.9))
        known = near <= self._reach
        self._residual = self._residual[known]
        self._base = _rms(self._residual)
        self.resolution: Floats = np.where(
            self._fixed | (np.arange(self.n + 1) == self.n) & self.rare_rewards, 0.0, self._base / self._spread
        )

    @property
    def changes(self) -> bool:
        """Whether any number that the model predicts ever changes."""
        return bool(self._told().any())

    @property
    def least_fitted(self) -> int:
        """The number of transitions that were fitted of the action that was taken least."""
        if not self._data.n_actions:
            return len(self._fit)
        return int(np.bincount(self._data.actions[self._fit], minlength=self._data.n_actions).min())

    def _inputs(self, states: Floats, actions: NDArray[np.float64]) -> Floats:
        return states if self._data.n_actions else np.concatenate([states, actions], axis=1)

    def _features(self, inputs: Floats, actions: NDArray[Any]) -> Floats:
        """Return features ``[N, D]``: random ones that all actions share, and each action's own."""
        x = inputs / self._scale
        bent = np.tanh(x @ self._weights + self._shift)
        pairs = (x[:, :, None] * x[:, None])[:, *np.triu_indices(x.shape[1])][:, :_PRODUCTS]
        shared = np.concatenate([np.ones((len(x), 1)), x, bent, np.clip(pairs, -9, 9)], axis=1)
        if not self._data.n_actions:
            return shared
        own = np.concatenate([np.ones((len(x), 1)), x, bent[:, :_OWN]], axis=1)
        each = [own * (actions == a)[:, None] for a in range(self._data.n_actions)]
        return np.concatenate([shared, *each], axis=1)

    def _solved(self, features: Floats, targets: Floats) -> Floats:
        """Return the ridge regression, with the penalty that predicts a fifth of the transitions best."""
        cut = len(features) * 4 // 5
        unit = np.maximum(targets.std(0), 1e-300)

        def solve(rows: slice, penalty: float) -> Floats:
            gram = features[rows].T @ features[rows]
            gram[np.diag_indices_from(gram)] += penalty * len(features[rows])
            return np.asarray(np.linalg.solve(gram, features[rows].T @ targets[rows]))

        def loss(penalty: float) -> float:
            missed = features[cut:] @ solve(slice(cut), penalty) - targets[cut:]
            return float(np.minimum(_rms(missed) / unit, 1).sum())

        return solve(slice(None), min(_PENALTIES, key=loss))

    def predict(self, states: Floats, actions: NDArray[Any]) -> Floats:
        """Return the predicted ``(s' - s, r)``, ``[N, n + 1]``."""
        return np.asarray(self._features(self._inputs(states, actions), actions) @ self._solution)

    def possible_actions(self, step: Step, largest_ratio: float) -> NDArray[np.bool_]:
        """Return which ``Discrete`` action may become which under a map of states, ``[|A|, |A|]``: a screening."""
        rows = self.held[: _SCREENED * max(1, self._data.n_actions)]
        states = moved(self._data.states[rows], step)
        known = self._seen.query(states / self._unit)[0] <= self._reach + 1e-12
        states, actions = states[known], self._data.actions[rows][known]
        wanted = self._wanted(step)[: len(rows)][known]
        expected = self._expected(step) + 0.03 * self._spread_of(step)
        told = self._told()
        possible = np.zeros((self._data.n_actions,) * 2, dtype=bool)
        for b in range(self._data.n_actions):
            difference = self.predict(states, np.full(len(states), b)) - wanted
            for a in range(self._data.n_actions):
                mine = difference[actions == a]
                error = _rms(mine) if len(mine) else np.zeros(self.n + 1)
                possible[a, b] = bool((error[told] <= largest_ratio * expected[told]).all())
        return possible

    def compare(self, step: Step, action: Step, clear: float = CLEAR) -> VectorEvidence:
        """Compare a candidate with the model on all held-out transitions.

        Args:
            step: What it does to observations.
            action: What it does to actions.
            clear: Standard errors by which events are elsewhere.
        """
        data, held = self._data, self.held
        states = moved(data.states[held], step)
        known = self._seen.query(states / self._unit)[0] <= self._reach + 1e-12
        if known.mean() < _LEAST_KNOWN:
            return VectorEvidence(float("inf"), float("inf"), False, True, False)
        actions = data.actions[held][known]
        turned = np.array(action.to)[actions] if data.n_actions else moved(actions, action)
        difference = self.predict(states[known], turned) - self._wanted(step)[known]
        told = self._told()
        error, base, spread = _rms(difference), self._expected(step), self._spread_of(step)
        floor = 1e-3 * spread + 1e-300
        ratio = ((error + floor) / (base + floor))[told]
        added = (np.sqrt(np.maximum(error**2 - base**2, 0)) / np.maximum(spread, 1e-300))[told]
        scaled = np.abs(difference[:, told]) / (base + floor)[told]
        usual = np.abs(self._residual)[:, told] / (self._base + 1e-3 * self._spread + 1e-300)[told]
        far = float(np.quantile(usual.max(1), 0.999)) * 3
        outliers = int((scaled.max(1) > far).sum()), int((usual.max(1) > far).sum())
        events = any(self._elsewhere(label, step, clear) for label in self._labels)
        many = outliers[0] > outliers[1] + max(5, 0.002 * len(difference))
        return VectorEvidence(float(added.max()), float(ratio.max()), many, False, events)

    def _told(self) -> NDArray[np.bool_]:
        """Return which of the predicted numbers are compared: not a reward that is rare, nor what never changes."""
        told = ~self._fixed
        told[-1] &= not self.rare_rewards
        return np.asarray(told)

    def _wanted(self, step: Step) -> Floats:
        return np.concatenate([moved(self._targets[:, :-1], step), self._targets[:, -1:]], axis=1)

    def _expected(self, step: Step) -> Floats:
        return self._carried(self._base, step)

    def _spread_of(self, step: Step) -> Floats:
        return self._carried(self._spread, step)

    def _carried(self, each: Floats, step: Step) -> Floats:
        """Return a number for each coordinate as a candidate carries them; the larger one of the two places."""
        result = each.copy()
        result[list(step.to)] = each[: self.n]
        return np.maximum(result, each)

    def _elsewhere(self, label: NDArray[np.bool_], step: Step, clear: float) -> bool:
        """Return whether events are rarer around the images of those seen, or worse told at images of all states."""
        following = self._data.next_states
        seen = following[label]
        around = [self._followed.query(seen / self._unit, k=_NEIGHBOURS + 1)[1][:, 1:]]  # without the event itself
        around += [self._followed.query(moved(seen, step) / self._unit, k=_NEIGHBOURS)[1]]
        here, there = (label[rows].mean(axis=1) for rows in around)
        fewer = here - there
        deviation = max(float(fewer.std()), 0.05) / np.sqrt(len(fewer))
        if fewer.mean() > max(clear * deviation, _LARGEST_LOSS * here.mean()):
            return True
        held = np.setdiff1d(np.arange(len(label)), self._fit)
        known, actual = label[self._fit], label[held]
        loss = [
            (known[self._reached.query(states / self._unit, k=_NEIGHBOURS)[1]].mean(1) - actual) ** 2
            for states in (following[held], moved(following[held], step))
        ]
        worse = loss[1] - loss[0]
        deviation = float(worse.std() / np.sqrt(len(worse)))
        return bool(worse.mean() > max(clear * deviation, 2 * _LARGEST_LOSS * loss[0].mean()))


def _special_rewards(rewards: Floats) -> list[NDArray[np.bool_]] | None:
    """Return where each rare value of the reward was given; ``None`` where rewards are not rare, but all different."""
    unit = max(float(np.abs(rewards).max()), 1e-300)
    rounded = np.round(rewards / unit, 6)
    values, counts = np.unique(rounded, return_counts=True)
    usual = values[counts.argmax()]
    if not _LEAST_USUAL <= counts.max() / len(rewards) < 1:
        return None
    if len(values) - 1 > _MOST_VALUES:
        return [rounded > usual, rounded < usual]
    return [rounded == value for value in values if value != usual]


def _rms(difference: Floats) -> Floats:
    return np.asarray(np.sqrt((difference**2).mean(0)))
