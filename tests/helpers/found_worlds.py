"""Worlds whose symmetry is known, that nothing can place in a state, and some in which one thing breaks it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv

from equirl.envs.gridworld import GridWorldEnv

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


class NoisyWalk(gym.Env[Any, int]):
    """A walk with chance in its velocity, which ends at both sides; actions push right, left, or not.

    ``louder`` is the factor of the chance on the right, ``drift`` a push to the right, and ``ripple`` the height of
    waves in the force, too short for a model; without ``chance`` they are all that varies.
    """

    def __init__(self, louder: float = 1.0, drift: float = 0.0, ripple: float = 0.0, chance: float = 0.03) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Discrete(3)
        self.louder, self.drift, self.ripple, self.chance = louder, drift, ripple, chance

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.state, self.time = self.np_random.uniform(-0.4, 0.4, 2), 0
        return self.state.copy(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        x, v = self.state
        noise = self.chance * (self.louder if x > 0 else 1.0) * self.np_random.normal()
        v = 0.9 * v + (0.1, -0.1, 0.0)[action] + self.drift + self.ripple * np.cos(200 * x) + noise
        x = 0.97 * x + 0.1 * v
        self.state, self.time = np.array([x, v]), self.time + 1
        return self.state.copy(), -x * x, bool(abs(x) > 0.5), self.time >= 60, {}


class WalledCartPole(CartPoleEnv):
    """A cart that stops at a wall on the right, where random actions hardly ever bring it."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = super().step(action)
        x, speed, angle, turning = self.state
        if x > 2.0:
            self.state = (x, min(speed, 0.0), angle, turning)
        return np.array(self.state, dtype=np.float32), float(reward), terminated, truncated, info


class WindyCartPole(CartPoleEnv):
    """A cart that each step blows a little to the right; ``wind`` in units of the push of an action."""

    wind = 0.01

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        _, reward, terminated, truncated, info = super().step(action)
        x, speed, angle, turning = self.state
        self.state = (x, speed + 0.195 * self.wind, angle, turning)
        return np.array(self.state, dtype=np.float32), float(reward), terminated, truncated, info


class MarkedGridWorld(GridWorldEnv):
    """A GridWorld with a reward of its own in one cell, which no mirror or turn leaves where it is."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        seen, reward, *rest = super().step(action)
        return seen, reward + 0.5 * (self.agent == (0, 1)), *rest  # type: ignore[return-value]
