"""A world seen from a frame that its own observation gives: then every agent is equivariant under every turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray
from torch import Tensor

from equirl.arguments import whole_number
from equirl.envs.point_robot import PointRobotEnv
from equirl.plane import Part, PlaneElements, PlaneVectors

__all__ = ["InPlaneFrame", "point_robot_in_frame"]

_ALIKE = 1e-6  # of the product of the lengths: what counts as no side


class InPlaneFrame(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Turns the world so that one vector of the observation points along the x axis, and the actions back.

    ``pi_G(s) = f(s)^-1 pi(f(s) s)`` for any policy ``pi`` and any algorithm, values and noise included, at no cost: the
    agent lives in the frame's coordinates, where turned states are the same state. It is the exact frame of SO(2), or
    with mirrors of O(2) (Puny et al. 2022, arXiv:2110.03336). Where the vector vanishes the frame is that of the world.
    Where neither side is told by the other vectors, the parts that a mirror moves are left out of view and action.
    Actions may leave their bounds when they are turned back: the world is to take a disc of them.

    Args:
        env: Observations and actions are flat ``Box`` vectors of the plane.
        observation: The parts of an observation, as ``PlaneVectors`` or their kinds; no points.
        action: The parts of an action.
        reference: Which of the observation's vectors gives the frame.
        mirrors: Whether the second side is told by where the sum of the other vectors lies, and mirrored to the left.

    Raises:
        TypeError: Other spaces.
        ValueError: Parts that do not fit the spaces, points, or no such vector.
    """

    def __init__(
        self,
        env: gym.Env[Any, Any],
        observation: PlaneVectors | Sequence[Part],
        action: PlaneVectors | Sequence[Part],
        reference: int = 0,
        mirrors: bool = False,
    ) -> None:
        observation, action = (p if isinstance(p, PlaneVectors) else PlaneVectors(*p) for p in (observation, action))
        kept: dict[str, Any] = {
            "observation": list(observation.parts),
            "action": list(action.parts),
            "reference": reference,
            "mirrors": mirrors,
        }
        RecordConstructorArgs.__init__(self, **kept)
        gym.Wrapper.__init__(self, env)
        for what, space, parts in (
            ("observations", env.observation_space, observation),
            ("actions", env.action_space, action),
        ):
            if not isinstance(space, spaces.Box) or len(space.shape) != 1:
                raise TypeError(f"a plane's frame turns flat Box vectors; the {what} are {space}")
            if space.shape != (parts.dim,) or "point" in parts.parts:
                raise ValueError(
                    f"the {what} have {space.shape[0]} numbers and no points in a frame; {parts} has {parts.dim}"
                )
        n_vectors = observation.parts.count("vector")
        if not 0 <= whole_number(reference, "reference", 0) < n_vectors:
            raise ValueError(f"reference {reference} is none of the {n_vectors} vectors of the observation")
        bound = np.full(observation.dim, np.inf, dtype=np.float32)
        self.observation_space = spaces.Box(-bound, bound, dtype=np.float32)
        self._observation, self._action = observation, action
        self._reference, self._mirrors = reference, bool(mirrors)
        self._sideless = False
        self._frame = PlaneElements(torch.zeros(1), torch.zeros(1, dtype=torch.bool), torch.zeros(1, 2))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, and return its first observation in its frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Turn the action back into the world, step, and return the observation in its own frame."""
        given = torch.as_tensor(np.asarray(action, dtype=np.float64).reshape(1, -1))
        given = _even(self._action, given) if self._sideless else given
        turned = self._action.pull_back(self._frame, given)[0].numpy()
        observation, reward, terminated, truncated, info = self.env.step(turned)
        return self._seen(observation), reward, terminated, truncated, info

    def _seen(self, observation: Any) -> NDArray[np.float32]:
        x = torch.as_tensor(np.asarray(observation, dtype=np.float64).reshape(1, -1))
        vectors = self._observation.vectors(x)[0]
        vector, rest = vectors[self._reference], vectors.sum(dim=0) - vectors[self._reference]
        turn = -torch.atan2(vector[1], vector[0])
        side = float(vector[0] * rest[1] - vector[1] * rest[0])
        self._sideless = self._mirrors and abs(side) <= _ALIKE * float(vector.norm() * rest.norm())
        mirror = self._mirrors and not self._sideless and side < 0
        angle = (-turn if mirror else turn).view(1)
        self._frame = PlaneElements(angle, torch.tensor([mirror]), torch.zeros(1, 2, dtype=torch.float64))
        turned = self._observation.transform(self._frame, x)
        turned = _even(self._observation, turned) if self._sideless else turned
        seen: NDArray[np.float32] = turned[0].numpy().astype(np.float32)
        return seen


def _even(parts: PlaneVectors, x: Tensor) -> Tensor:
    """Return the part of samples that the mirror of the y axis leaves as it is."""
    mirror = PlaneElements(torch.zeros(1), torch.ones(1, dtype=torch.bool), torch.zeros(1, 2))
    return 0.5 * (x + parts.transform(mirror, x))


def point_robot_in_frame(mirrors: bool = True, **settings: Any) -> InPlaneFrame:
    """Return a ``PointRobotEnv`` in the frame of its goal, as ``equirl/PointRobotInFrame-v0``.

    Args:
        mirrors: Whether the frame is that of O(2), or of SO(2).
        **settings: As for ``PointRobotEnv``.

    Raises:
        TypeError: As for ``PointRobotEnv``.
        ValueError: As for ``PointRobotEnv``.
    """
    robot = PointRobotEnv(**settings)
    return InPlaneFrame(robot, *robot.layout, mirrors=mirrors)
