"""A world with masks for every action space that MaskablePPO takes, and its mirror, written out by hand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl import (
    MDPSymmetry,
    dihedral_group,
    permutation_representation,
    signed_permutation_representation,
)

__all__ = ["SPACES", "MaskedWorld", "mirror", "mirrored_action", "mirrored_mask"]

SPACES: dict[str, Any] = {
    "Discrete": spaces.Discrete(4),
    "MultiDiscrete": spaces.MultiDiscrete([3, 3]),
    "MultiBinary": spaces.MultiBinary(3),
}
MASK_SIZES = {"Discrete": 4, "MultiDiscrete": 6, "MultiBinary": 6}


def mirror(kind: str) -> MDPSymmetry:
    """States change their sign. Actions 0..3 reverse; two components change places; so do two bits, and one flips."""
    group = dihedral_group(1)
    states = signed_permutation_representation(group, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4])
    actions = {
        "Discrete": permutation_representation(group, [[0, 1, 2, 3], [3, 2, 1, 0]]),
        "MultiDiscrete": permutation_representation(group, [[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]]),
        "MultiBinary": signed_permutation_representation(group, [[0, 1, 2], [1, 0, 2]], [[1, 1, 1], [1, 1, -1]]),
    }
    return MDPSymmetry(f"mirror-{kind}", states, actions[kind])


def mirrored_action(kind: str, action: Any) -> Any:
    """Return ``ga`` of actions ``[B, *action]``."""
    if kind == "Discrete":
        return 3 - action
    moved = action.flip(1) if kind == "MultiDiscrete" else action[:, [1, 0, 2]]
    if kind == "MultiBinary":
        moved[:, 2] = 1 - moved[:, 2]
    return moved


def mirrored_mask(kind: str, mask: Any) -> Any:
    """Return ``gm`` of masks ``[B, values]``; of bits, the values 0 and 1 of one after the other."""
    columns = {"Discrete": [3, 2, 1, 0], "MultiDiscrete": [3, 4, 5, 0, 1, 2], "MultiBinary": [2, 3, 0, 1, 5, 4]}
    return mask[:, columns[kind]]


def random_masks(kind: str, n: int, random: np.random.Generator) -> Any:
    """Return masks ``[n, values]`` under which every component has a legal value."""
    masks = random.random((n, MASK_SIZES[kind])) < 0.5
    size = {"Discrete": 4, "MultiDiscrete": 3, "MultiBinary": 2}[kind]
    parts = masks.reshape(n, -1, size)
    rows, columns = np.indices(parts.shape[:2])
    parts[rows, columns, random.integers(size, size=rows.shape)] = True
    return masks


class MaskedWorld(gym.Env[Any, Any]):
    """Random states and masks; episodes of 8 steps. An illegal action is an error."""

    def __init__(self, kind: str = "Discrete") -> None:
        self.kind = kind
        self.observation_space = spaces.Box(-1, 1, (4,), np.float32)
        self.action_space = SPACES[kind]

    def _draw(self) -> Any:
        self._mask = random_masks(self.kind, 1, self.np_random)[0]
        return self.np_random.uniform(-1, 1, 4).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._steps = 0
        return self._draw(), {}

    def step(self, action: Any) -> Any:
        values = np.atleast_1d(action)
        size = len(self._mask) // len(values)
        if not all(self._mask[size * k + int(value)] for k, value in enumerate(values)):
            raise ValueError(f"{action} is illegal under {self._mask}")
        self._steps += 1
        return self._draw(), float(values.sum()), self._steps == 8, False, {}

    def action_masks(self) -> Any:
        return self._mask
