"""Robots that see what their state does not tell, such as their last action: steps show how that is mirrored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from equirl.envs import mujoco_mirror

pytest.importorskip("mujoco", reason="the extra mujoco is not installed: pip install 'equirl[mujoco]'")
walker2d: Any = pytest.importorskip("gymnasium.envs.mujoco.walker2d_v5")


class Remembering(walker2d.Walker2dEnv):  # type: ignore[misc]
    """A walker that sees a number for each control beside its state."""

    def __init__(self, what: str) -> None:
        self._what, self._shown = what, np.zeros(6)
        super().__init__()
        self.observation_space = spaces.Box(-np.inf, np.inf, (17 + 6,), np.float64)

    def _get_obs(self) -> Any:
        return np.concatenate([super()._get_obs(), self._shown])

    def step(self, action: Any) -> Any:
        left, right = np.float64(action[3:]), np.float64(action[:3])
        shown = {"last action": np.float64(action), "mean of two": np.concatenate([left + right, left])}
        self._shown = shown[self._what]
        return super().step(action)


def test_the_last_action_is_mirrored_as_actions_are() -> None:
    symmetry: Any = mujoco_mirror(Remembering("last action"))
    plain: Any = mujoco_mirror(walker2d.Walker2dEnv())
    assert symmetry.action.index[1].tolist() == [3, 4, 5, 0, 1, 2]
    assert (symmetry.observation.index[1, 17:] - 17).tolist() == symmetry.action.index[1].tolist()
    assert symmetry.observation.sign[1, 17:].tolist() == symmetry.action.sign[1].tolist()
    assert symmetry.observation.index[1, :17].tolist() == plain.observation.index[1].tolist()
    assert symmetry.observation.sign[1, :17].tolist() == plain.observation.sign[1].tolist()


def test_what_moves_by_no_permutation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Remembering shows numbers that its state does not tell, at .* 17, 18"):
        mujoco_mirror(Remembering("mean of two"))
