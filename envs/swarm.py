"""A swarm of point robots on the plane: it may be turned, mirrored and moved, and the robots may change places."""

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

__all__ = ["SwarmEnv"]

Numbers = NDArray[np.float64]

_STEP, _DRAG = 0.1, 0.9
_GOAL, _APART = 0.5, 0.2  # radius of the goal's disc, and what two robots keep between them
_NEAR, _FAR = 1.0, 2.0  # distances of a new goal from the middle of the disc in which the robots start
_START = 0.8  # radius of the disc in which the robots start


class SwarmEnv(gym.Env[NDArray[np.float32], NDArray[np.float32]]):
    """Push ``n`` robots into one disc; two that would come too near to each other stop, by where a step would end.

    **Observation.** float32 ``[4 n]``: for each robot the vector to the goal, and its velocity.

    **Actions.** A force for each robot, ``Box(-1, 1, [2 n])``; a longer one than 1 is shortened to 1. Forces outside of
    the box are taken, too.

    **Reward.** The mean over the robots of ``info["rewards"]``, ``[n]``: how much nearer to the goal a step brings the
    robot, and 1 once all are in the disc.

    **Episode end.** Terminates when all are in the disc; truncated after ``max_steps``. ``info["is_success"]`` tells
    which.

    **Symmetry.** S_n x O(2), exactly: ``"swarm-d4"`` has all permutations of up to five robots, quarter turns and
    mirrors. Places are drawn from distributions that none of this changes.

    Args:
        n_robots: How many.
        max_steps: Steps before truncation.

    Raises:
        TypeError: A number that is not whole.
        ValueError: A number out of its range.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (as Gymnasium declares it)

    def __init__(self, n_robots: int = 3, max_steps: int = 100) -> None:
        self.n_robots = whole_number(n_robots, "n_robots", 1)
        self.max_steps = whole_number(max_steps, "max_steps", 1)
        if self.n_robots > 12:
            raise ValueError(f"n_robots is at most 12, which have room in the disc of the goal; got {n_robots}")
        self.observation_space = spaces.Box(-np.inf, np.inf, (4 * self.n_robots,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2 * self.n_robots,), np.float32)
        self.goal: Numbers = np.zeros(2)
        self.places: Numbers = np.zeros((self.n_robots, 2))
        self.velocities: Numbers = np.zeros((self.n_robots, 2))
        self._steps: int | None = None

    @property
    def layout(self) -> tuple[PlaneVectors, PlaneVectors]:
        """The parts of an observation and of an action."""
        seen: list[Part] = ["vector"] * (2 * self.n_robots)
        return PlaneVectors(*seen), PlaneVectors(*seen[: self.n_robots])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment's random numbers.
            options: ``"state"``: the goal, the places and the velocities, ``[1 + 2 n, 2]``, instead of drawn ones.

        Raises:
            TypeError: The options are no dict, or the state holds no numbers.
            ValueError: Unknown options, a state of another shape, or one that is not finite.
        """
        super().reset(seed=seed)
        n = self.n_robots
        state = given_state(options, (1 + 2 * n, 2))
        drawn = self._draw() if state is None else state
        self.goal, self.places, self.velocities = drawn[0], drawn[1 : 1 + n], drawn[1 + n :]
        self._steps = 0
        return self._observe(), {}

    def step(self, action: NDArray[np.floating[Any]]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Push, and return observation, reward, terminated, truncated and info.

        Raises:
            ResetNeeded: There was no ``reset`` yet.
            TypeError: The action holds no numbers.
            ValueError: The action is no ``2 n`` finite numbers.
        """
        if self._steps is None:
            raise ResetNeeded("step() before the first reset(): there are no robots yet. Call reset() first")
        forces = shortened_forces(action, self.n_robots)
        before = self._distances()
        self.velocities = _DRAG * self.velocities + _STEP * forces
        self._move()
        self._steps += 1
        distances = self._distances()
        success = bool((distances < _GOAL).all())
        truncated = not success and self._steps >= self.max_steps
        rewards = before - distances + float(success)
        info = {"is_success": success, "rewards": rewards}
        return self._observe(), float(rewards.mean()), success, truncated, info

    def state(self) -> Numbers:
        """Return the state as ``reset`` takes it."""
        return np.concatenate([self.goal[None], self.places, self.velocities])

    def _move(self) -> None:
        """Move the robots; one stays if it would come nearer to another one than they keep apart.

        Who stays may be in the way of others, which then stay, too: it does not matter who is looked at first.
        """
        there = self.places + _STEP * self.velocities
        stopped = np.zeros(self.n_robots, dtype=bool)
        before = _gaps(self.places)
        while True:
            ends = np.where(stopped[:, None], self.places, there)
            gaps = _gaps(ends)
            more = ((gaps < _APART) & (gaps < before)).any(axis=1) & ~stopped
            if not more.any():
                break
            stopped |= more
        self.places = ends
        self.velocities[stopped] = 0.0

    def _distances(self) -> Numbers:
        return np.asarray(np.linalg.norm(self.goal - self.places, axis=1))

    def _draw(self) -> Numbers:
        random = self.np_random

        def around(least: float, most: float) -> Numbers:
            angle, radius = random.uniform(0, 2 * np.pi), random.uniform(least, most)
            return radius * np.array([np.cos(angle), np.sin(angle)])

        while True:
            goal, drawn = around(_NEAR, _FAR), [around(0.0, _START)]
            while len(drawn) < self.n_robots:
                place = around(0.0, _START)
                if (np.linalg.norm(np.array(drawn) - place, axis=1) > _APART).all():
                    drawn.append(place)
            places = random.permutation(np.array(drawn))  # the later ones were drawn farther out
            if (np.linalg.norm(places - goal, axis=1) >= _GOAL).any():
                return np.concatenate([goal[None], places, np.zeros((self.n_robots, 2))])

    def _observe(self) -> NDArray[np.float32]:
        return np.concatenate([self.goal - self.places, self.velocities], axis=1).astype(np.float32).reshape(-1)


def _gaps(places: Numbers) -> Numbers:
    """Return the distances between robots ``[n, n]``; that of a robot to itself is infinite."""
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart)
