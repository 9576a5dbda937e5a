"""Small symmetric worlds with observations of every kind that Stable-Baselines3 knows, for tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    Representation,
    TokenRepresentation,
    cyclic_group,
    permutation_representation,
    signed_permutation_representation,
)

_GROUP = cyclic_group(2)
_ACTION = permutation_representation(_GROUP, [[0, 1], [1, 0]])
_LABELS = TokenRepresentation(_GROUP, [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], shape=())
_SIGN = signed_permutation_representation(_GROUP, [[0, 1]] * 2, [[1, 1], [-1, -1]])
_SWAP = permutation_representation(_GROUP, [[0, 1], [1, 0]])
_PAIR = TokenRepresentation(_GROUP, [[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]], shape=(2,))

KINDS: dict[str, tuple[spaces.Space[Any], Representation]] = {
    "box": (spaces.Box(-1, 1, (2,), np.float32), _SIGN),
    "discrete": (spaces.Discrete(6), _LABELS),
    "multidiscrete": (spaces.MultiDiscrete([6, 6]), _PAIR),
    "multibinary": (spaces.MultiBinary(2), _SWAP),
    "dict": (
        spaces.Dict({"x": spaces.Box(-1, 1, (2,), np.float32), "place": spaces.Discrete(6)}),
        MappingRepresentation({"x": _SIGN, "place": _LABELS}),
    ),
}
"""Observation space and representation by kind."""


def mirror(kind: str) -> MDPSymmetry:
    """Return the mirror symmetry of ``World(kind)``."""
    return MDPSymmetry("mirror", KINDS[kind][1], _ACTION)


def policy_name(kind: str) -> str:
    """Return the name of SB3's policy for the observations of ``World(kind)``."""
    return "MultiInputPolicy" if kind == "dict" else "MlpPolicy"


class World(gym.Env[Any, int]):
    """Draws its observations from their space, with the space's own random numbers; one step in ten is the last."""

    def __init__(self, kind: str) -> None:
        self.observation_space, self.action_space = KINDS[kind][0], spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.observation_space.sample(), float(action), bool(self.np_random.random() < 0.1), False, {}
