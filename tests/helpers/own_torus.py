"""A world of a user's own, in a file of its own: a torus of 5 x 5 cells, five moves, "stay" among them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["write_torus"]

_MODULE = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl import MDPSymmetry, dihedral_group, image_representation, register_symmetry
from equirl.displacements import displacement_representation

MOVES = [(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0)]


class Torus(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
    action_space = spaces.Discrete(5)

    def __init__(self, render_mode=None, mode="sparse", n=5, success=True):
        if mode not in ("sparse", "dense"):
            raise ValueError(f"mode is sparse or dense, not {mode}")
        self.render_mode, self.mode, self.n, self.success = render_mode, mode, n, success
        self.observation_space = spaces.Box(0, 1, (2, n, n), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        agent, goal = self.np_random.choice(self.n**2, 2, replace=False)
        self.agent, self.goal = np.array(divmod(agent, self.n)), np.array(divmod(goal, self.n))
        self.time = 0
        return self._observe(), {}

    def step(self, action):
        self.agent = (self.agent + MOVES[action]) % self.n
        self.time += 1
        won = bool((self.agent == self.goal).all())
        reward = float(won) - (0.1 if self.mode == "dense" else 0)
        return self._observe(), reward, won, self.time >= 10, {"is_success": won} if self.success else {}

    def render(self):
        return np.zeros((32, 32, 3), np.uint8)

    def _observe(self):
        observation = np.zeros((2, self.n, self.n), np.float32)
        observation[0][tuple(self.agent)] = observation[1][tuple(self.goal)] = 1
        return observation


def turns(shape, n_actions):
    group = dihedral_group(4)
    return MDPSymmetry("NAME", image_representation(group, shape), displacement_representation(group, MOVES))


register_symmetry("NAME", turns)
gym.register("NAME-v0", Torus)
"""


def write_torus(folder: Path, name: str) -> Any:
    """Write the module ``name``, which registers the environment ``name-v0`` and the symmetry ``name``.

    Returns:
        The class of the environment, from a copy of the module that registers nothing.
    """
    text = _MODULE.replace("NAME", name)
    (folder / f"{name}.py").write_text(text)
    silent = folder / f"{name}_class.py"
    silent.write_text(text.partition("\n\nregister_symmetry(")[0])
    spec = importlib.util.spec_from_file_location(silent.stem, silent)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Torus
