"""Worlds whose symmetry is known, that nothing can place in a state, and some in which one thing breaks it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

MOVES = [(0, 0), (-1, 0), (0, 1), (1, 0), (0, -1)]  # stay first; clockwise from up


class Torus(gym.Env[Any, int]):
    """An agent and a goal on a torus, five actions; ``marked`` is a cell with a reward of its own."""

    def __init__(self, size: int = 5, marked: bool = False, ice: float = 0.0) -> None:
        self.observation_space = spaces.Box(0, 1, (2, size, size), np.float32)
        self.action_space = spaces.Discrete(5)
        self.size, self.marked, self.ice = size, marked, ice

    def _view(self) -> np.ndarray:
        view = np.zeros((2, self.size, self.size), np.float32)
        view[0][tuple(self.agent)] = view[1][tuple(self.goal)] = 1
        return view

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.agent, self.goal = self.np_random.integers(self.size, size=2), self.np_random.integers(self.size, size=2)
        self.time = 0
        return self._view(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        move = MOVES[0 if self.np_random.random() < self.ice else action]
        self.agent, self.time = (self.agent + move) % self.size, self.time + 1
        done = bool((self.agent == self.goal).all())
        reward = float(done) + (0.1 if self.marked and tuple(self.agent) == (1, 0) else 0.0)
        return self._view(), reward, done, self.time >= 50, {}


class Line(gym.Env[Any, int]):
    """Three particles on a line that push each other; actions push one of them. ``heavy`` is the mass of the first."""

    def __init__(self, heavy: float = 1.0) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float64)
        self.action_space = spaces.Discrete(4)
        self.masses = np.array([heavy, 1.0, 1.0])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.v, self.time = self.np_random.uniform(-1, 1, 3), np.zeros(3), 0
        return np.stack([self.x, self.v], 1).ravel(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        apart = self.x[:, None] - self.x[None]
        force = (0.1 * apart / (0.1 + apart**2)).sum(1) - self.x
        if action < 3:
            force[action] += 1
        self.v = 0.9 * self.v + 0.1 * force / self.masses
        self.x, self.time = self.x + 0.1 * self.v, self.time + 1
        out = bool(np.abs(self.x).max() > 1.5)
        return np.stack([self.x, self.v], 1).ravel(), -float((self.x**2).sum()), out, self.time >= 100, {}


class WalledCartPole(CartPoleEnv):
    """A cart that stops at a wall on the right, where random actions hardly ever bring it."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = super().step(action)
        x, speed, angle, turning = self.state
        if x > 2.0:
            self.state = (x, min(speed, 0.0), angle, turning)
        return np.array(self.state, dtype=np.float32), float(reward), terminated, truncated, info
