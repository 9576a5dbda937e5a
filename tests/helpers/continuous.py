"""Agents with continuous actions for tests: every algorithm, small networks, worlds with a mirror."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import DDPG, SAC, TD3
from torch import Tensor

from equirl import MDPSymmetry, dihedral_group, signed_permutation_representation
from equirl.agents import (
    EquivariantCrossQPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
    EquivariantTQCPolicy,
)

__all__ = ["ALGORITHMS", "SWAP", "SWAPPED", "TwoArms", "actor_of", "make", "values_of"]

ALGORITHMS: dict[str, tuple[Any, Any]] = {
    "sac": (SAC, EquivariantSACPolicy),
    "td3": (TD3, EquivariantTD3Policy),
    "ddpg": (DDPG, EquivariantTD3Policy),
    "tqc": (TQC, EquivariantTQCPolicy),
    "crossq": (CrossQ, EquivariantCrossQPolicy),
}

SWAP = dihedral_group(1)
SWAPPED = MDPSymmetry(
    "two-arms",
    signed_permutation_representation(SWAP, [[0, 1, 2, 3, 4], [1, 0, 3, 2, 4]], [[1] * 5, [1, 1, -1, -1, -1]]),
    signed_permutation_representation(SWAP, [[0, 1, 2], [1, 0, 2]], [[1, 1, 1], [1, 1, -1]]),
)
"""The mirror of ``TwoArms``: left and right change places, and what points sideways changes its sign."""


class TwoArms(gym.Env[Any, Any]):
    """Two arms beside each other, and one joint in the middle: a mirror that swaps and changes signs."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (5,), np.float32)
        self.action_space = spaces.Box(np.array([-2, -2, -1], np.float32), np.array([2, 2, 1], np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin anywhere."""
        super().reset(seed=seed)
        self._state = self.np_random.normal(size=5).astype(np.float32)
        self._steps = 0
        return self._state, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move a little by the action."""
        self._state = (0.9 * self._state + 0.1 * np.array([action[0], action[1], *action])).astype(np.float32)
        self._steps += 1
        return self._state, -float(np.square(self._state).sum()), False, self._steps >= 25, {}


def make(name: str, method: str | None, seed: int = 0, **kwargs: Any) -> Any:
    """Return an agent of an algorithm in ``TwoArms``; without a method, SB3's own."""
    algorithm, policy = ALGORITHMS[name]
    own = {} if method is None else {"symmetry": SWAPPED, "method": method}
    settings = {"learning_starts": 30, "buffer_size": 500, "batch_size": 16, "device": "cpu", "seed": seed} | kwargs
    policy_kwargs = {"net_arch": [16, 16], **own, **settings.pop("policy_kwargs", {})}
    return algorithm(policy if method else "MlpPolicy", TwoArms(), policy_kwargs=policy_kwargs, **settings)


def actor_of(agent: Any, observations: Tensor) -> list[Tensor]:
    """Return mean and log-deviation of the actor, or its action alone."""
    actor = agent.policy.actor
    with torch.no_grad():
        if hasattr(actor, "get_action_dist_params"):
            return list(actor.get_action_dist_params(observations)[:2])
        return [actor(observations)]


def values_of(agent: Any, observations: Tensor, actions: Tensor) -> Tensor:
    """Return all values of the critics side by side, ``[B, n]``."""
    with torch.no_grad():
        values = agent.policy.critic(observations, actions)
        return values.flatten(1) if isinstance(values, Tensor) else torch.cat(values, dim=1)
