"""A point robot on the open plane: every turn, mirror and move of the world is a symmetry."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.forces import given_state, shortened_forces
from equirl.plane import Part, PlaneVectors

__all__ = ["PointRobotEnv"]

Vector = NDArray[np.float64]

_STEP, _DRAG, _FORCE = 0.1, 0.9, 1.0
_GOAL, _OBSTACLE = 0.15, 0.25  # radii
_NEAR, _FAR = 0.8, 2.0  # distances of a new goal
_TRIES = 1000


class PointRobotEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Push a point to a goal, past round obstacles.

    **Observation.** Vectors of the plane, float32 ``[4 + 2 n_obstacles]``: from the robot to the goal, its velocity,
    and from the robot to each obstacle, the nearest first.

    **Actions.** A force, ``Box(-1, 1, [2])``; a longer one than 1 is shortened to 1, so that the forces are a disc and
    turn into each other. Forces outside of the box are taken, too.

    **Reward.** How much nearer to the goal a step brings it, and 1 on arriving.

    **Episode end.** Terminates at the goal; truncated after ``max_steps``. ``info["is_success"]`` tells which.

    **Symmetry.** O(2), exactly (``PointRobotEnv.layout``); ``"plane-c4"`` and ``"plane-d4"`` are its quarter turns.
    Places are drawn from distributions that no turn changes.

    Args:
        n_obstacles: How many; a robot that runs into one stops there.
        max_steps: Steps before truncation.

    Raises:
        TypeError: A number that is not whole.
        ValueError: A number out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, n_obstacles: int = 2, max_steps: int = 100) -> None:
        self.n_obstacles = whole_number(n_obstacles, "n_obstacles", 0)
        self.max_steps = whole_number(max_steps, "max_steps", 1)
        self.observation_space = spaces.Box(-np.inf, np.inf, (4 + 2 * self.n_obstacles,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.place: Vector = np.zeros(2)
        self.velocity: Vector = np.zeros(2)
        self.goal: Vector = np.zeros(2)
        self.obstacles: Vector = np.zeros((self.n_obstacles, 2))
        self._steps: int | None = None

    @property
    def layout(self) -> tuple[PlaneVectors, PlaneVectors]:
        """The parts of an observation and of an action."""
        parts: list[Part] = ["vector"] * (2 + self.n_obstacles)
        return PlaneVectors(*parts), PlaneVectors("vector")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment's random numbers.
            options: ``"state"``: place, velocity, goal and obstacles, ``[3 + n_obstacles, 2]``, instead of drawn ones.

        Raises:
            TypeError: The options are no dict, or the state holds no numbers.
            ValueError: Unknown options, a state of another shape, or one that is not finite.
        """
        super().reset(seed=seed)
        state = given_state(options, (3 + self.n_obstacles, 2))
        drawn = self._draw() if state is None else state
        self.place, self.velocity, self.goal, self.obstacles = drawn[0], drawn[1], drawn[2], drawn[3:]
        self._steps = 0
        return self._observe(), {}

    def step(self, action: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push, and return observation, reward, terminated, truncated and info (with ``is_success``).

        Raises:
            ResetNeeded: There was no ``reset`` yet.
            TypeError: The action holds no numbers.
            ValueError: The action is no vector of two finite numbers.
        """
        if self._steps is None:
            raise ResetNeeded("step() before the first reset(): there is no robot yet. Call reset() first")
        force = shortened_forces(action, 1)[0]
        before = self._distance()
        self.velocity = _DRAG * self.velocity + _FORCE * _STEP * force
        there = self.place + _STEP * self.velocity
        if self.n_obstacles and float(np.linalg.norm(self.obstacles - there, axis=1).min()) < _OBSTACLE:
            self.velocity = np.zeros(2)
        else:
            self.place = there
        self._steps += 1
        distance = self._distance()
        success = distance < _GOAL
        truncated = not success and self._steps >= self.max_steps
        return self._observe(), before - distance + float(success), success, truncated, {"is_success": success}

    def state(self) -> Vector:
        """Return the state as ``reset`` takes it."""
        return np.concatenate([self.place[None], self.velocity[None], self.goal[None], self.obstacles])

    def _distance(self) -> float:
        return float(np.linalg.norm(self.goal - self.place))

    def _draw(self) -> Vector:
        random = self.np_random

        def around(least: float, most: float) -> Vector:
            angle, radius = random.uniform(0, 2 * np.pi), random.uniform(least, most)
            return radius * np.array([np.cos(angle), np.sin(angle)])

        goal = around(_NEAR, _FAR)
        for _ in range(_TRIES):
            obstacles = np.array([around(0.3, _FAR) for _ in range(self.n_obstacles)]).reshape(-1, 2)
            away = [np.linalg.norm(obstacles - each, axis=1) for each in (np.zeros(2), goal)]
            if all((gap > _OBSTACLE + _GOAL + 0.05).all() for gap in away):
                break
        return np.concatenate([np.zeros((2, 2)), goal[None], obstacles])

    def _observe(self) -> NDArray[np.float32]:
        to_obstacles = self.obstacles - self.place
        nearest_first = to_obstacles[np.argsort(np.linalg.norm(to_obstacles, axis=1), kind="stable")]
        parts = np.concatenate([(self.goal - self.place)[None], self.velocity[None], nearest_first])
        return parts.astype(np.float32).reshape(-1)
