"""How much of what a model leaves is chance? Episodes are taken again up to a step, which then meets other chance.

Two steps from the same state with the same action have what is not chance in common: the mean product of what the model
leaves of both is the mean square of what it fails to explain. No state is set: the seed and the actions lead there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from equirl.envs.actions import ActionLayout
from equirl.envs.discovery.chance_model import ChanceModel
from equirl.envs.observations import ObservationLayout

__all__ = ["Replays", "replay"]

_TIMES = 4  # steps of each episode that are taken again
_LEAST_PAIRS = 60
_LONGEST = 100  # steps

Floats = NDArray[np.float64]


class Replays(NamedTuple):
    """What replays tell of a model.

    Attributes:
        unexplained: What the model fails to explain, as a share of the spread: an upper bound (two standard errors),
            ``[n + 1]``; ``None`` where episodes cannot be taken again.
        chance: What differs between steps from one state, as a share of the spread, ``[n + 1]``.
        n_pairs: Steps that were taken twice.
        steps: Environment steps used.
    """

    unexplained: Floats | None
    chance: Floats
    n_pairs: int
    steps: int


def replay(environment: gym.Env[Any, Any], model: ChanceModel, steps: int, seed: int) -> Replays:
    """Return what a model fails to explain of usual steps.

    Args:
        environment: The one that gave the transitions; its chance comes from ``np_random``.
        model: The model.
        steps: Environment steps to use, about.
        seed: Seed of episodes and actions.
    """
    random = np.random.default_rng(seed)
    longest = min(_LONGEST, int(np.median(model.data.times[np.append(np.diff(model.data.times) <= 0, True)])) + 1)
    pairs: list[tuple[Floats, Any, Floats, Floats]] = []
    used = 0
    while used < steps:
        episode = _Episode(environment, int(random.integers(2**31)))
        for _ in range(int(random.integers(1, longest + 1))):
            episode.act(episode.actions.draw(random))
            if episode.over:
                break
        used += len(episode.taken)
        for k in sorted(set(random.integers(len(episode.taken), size=_TIMES).tolist())):
            again = _Episode(environment, episode.seed)
            for action in episode.taken[:k]:
                again.act(action)
            used += k + 1
            if not np.array_equal(again.states[-1], episode.states[k]):
                return Replays(None, np.zeros_like(model.spread), 0, used)
            environment.unwrapped.np_random = np.random.default_rng(int(random.integers(2**31)))
            again.act(episode.taken[k])
            if not (episode.ends[k] or again.ends[k]):
                pairs.append((episode.states[k], episode.taken[k], episode.outcome(k), again.outcome(k)))
    if len(pairs) < _LEAST_PAIRS:
        return Replays(None, np.zeros_like(model.spread), len(pairs), used)
    states, actions, first, second = (np.stack(column) for column in zip(*pairs, strict=True))
    expected = model.predict_new(states, actions)
    usual = model.is_usual(first - expected) & model.is_usual(second - expected)
    left, left_again = ((rows - expected)[usual] / model.spread for rows in (first, second))
    if len(left) < _LEAST_PAIRS:
        return Replays(None, np.zeros_like(model.spread), len(left), used)
    product = left * left_again
    bound = product.mean(axis=0) + 2 * product.std(axis=0) / np.sqrt(len(product))
    chance = np.sqrt(((left - left_again) ** 2).mean(axis=0) / 2)
    return Replays(np.where(model.told, np.sqrt(np.maximum(bound, 0)), 0.0), chance, len(left), used)


class _Episode:
    """An episode from a seed, with what happened in it."""

    def __init__(self, environment: gym.Env[Any, Any], seed: int) -> None:
        self.environment, self.seed = environment, seed
        self.actions = ActionLayout(environment.action_space)
        self._layout = ObservationLayout(environment.observation_space)
        self.states = [self._seen(environment.reset(seed=seed)[0])]
        self.taken: list[Any] = []
        self.rewards: list[float] = []
        self.ends: list[bool] = []
        self.over = False

    def act(self, action: Any) -> None:
        observation, reward, terminated, truncated, _ = self.environment.step(self.actions.numbered(action))
        self.states.append(self._seen(observation))
        self.taken.append(action)
        self.rewards.append(float(reward))
        self.ends.append(bool(terminated))
        self.over = bool(terminated or truncated)

    def outcome(self, k: int) -> Floats:
        return np.append(self.states[k + 1] - self.states[k], self.rewards[k])

    def _seen(self, observation: Any) -> Floats:
        return np.asarray(self._layout.vector(self._layout.show(observation)), dtype=np.float64)
