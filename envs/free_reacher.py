"""Reacher without its fixed axis: the arm starts at any angle, so that every turn and mirror of the table counts."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

from equirl.envs.forces import given_state
from equirl.envs.mujoco_pose import MUJOCO
from equirl.envs.placing import register_placer
from equirl.envs.plane_frame import InPlaneFrame
from equirl.optional import needed
from equirl.plane import PlaneVectors

__all__ = ["FreeReacher", "free_reacher", "free_reacher_in_frame"]

_ORDER = (0, 2, 4, 5, 8, 9, 1, 3, 6, 7)  # of Reacher-v5's numbers, so that vectors stand together


class FreeReacher(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Gymnasium's ``Reacher-v5`` whose first joint starts at any angle; its numbers stand in another order.

    **Observation.** float32 ``[10]``: the vectors of the first link's direction, of the target's place, and from the
    target to the fingertip; then cosine and sine of the second joint, and both angular velocities.

    **Symmetry.** O(2), which ``layout`` states: turns leave the torques as they are, and mirrors change their signs.
    The dynamics of ``Reacher-v5`` have this symmetry, too; its starts, with the first joint near zero, have not. A
    target is never set outside of its disc of radius 0.2; the joints that hold it end in a square of side 0.54.

    Args:
        env: ``Reacher-v5``.

    Raises:
        TypeError: Another environment.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        layer: gym.Env[Any, Any] = env
        while isinstance(layer, gym.Wrapper):
            if isinstance(layer, FreeReacher | gym.ObservationWrapper | gym.ActionWrapper):
                raise TypeError(f"FreeReacher takes Reacher-v5 as it is; {type(layer).__name__} changes what it shows")
            layer = layer.env
        if type(env.unwrapped).__name__ != "ReacherEnv" or env.observation_space.shape != (len(_ORDER),):
            raise TypeError(f"FreeReacher takes Gymnasium's Reacher-v5; got {env}")
        self.observation_space = spaces.Box(-np.inf, np.inf, (len(_ORDER),), np.float32)

    @property
    def layout(self) -> tuple[PlaneVectors, PlaneVectors]:
        """The parts of an observation and of an action."""
        seen = PlaneVectors("vector", "vector", "vector", "scalar", "pseudoscalar", "pseudoscalar", "pseudoscalar")
        return seen, PlaneVectors("pseudoscalar", "pseudoscalar")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode, and turn the arm by a random angle.

        Args:
            seed: Seeds the environment's random numbers.
            options: ``"state"``: ``qpos`` and ``qvel``, one after the other, ``[8]``, instead of drawn ones.

        Raises:
            TypeError: The options are no dict, or the state holds no numbers.
            ValueError: Unknown options, a state of another shape, or one that is not finite.
        """
        drawn = given_state(options, (8,))
        _, info = self.env.reset(seed=seed)
        arm: Any = self.env.unwrapped
        if drawn is None:
            drawn = self.state()
            drawn[0] += arm.np_random.uniform(0, 2 * np.pi)
        arm.set_state(drawn[:4], drawn[4:])
        return self._seen(arm._get_obs()), info

    def step(self, action: Any) -> tuple[NDArray[np.float32], Any, bool, bool, dict[str, Any]]:
        """Step, and return the observation in the order of ``layout``."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return self._seen(observation), reward, terminated, truncated, info

    def state(self) -> NDArray[np.float64]:
        """Return the state as ``reset`` takes it."""
        data: Any = self.env.unwrapped.data  # type: ignore[attr-defined]
        return np.concatenate([data.qpos, data.qvel])

    def _seen(self, observation: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.asarray(observation, dtype=np.float32)[list(_ORDER)]


def _place(environment: FreeReacher, observation: NDArray[Any]) -> None:
    cos1, sin1, x, y, _, _, cos2, sin2, velocity1, velocity2 = observation.astype(np.float64)
    joints = [np.arctan2(sin1, cos1), np.arctan2(sin2, cos2)]
    environment.reset(options={"state": [*joints, x, y, velocity1, velocity2, 0.0, 0.0]})


register_placer(FreeReacher, _place)


def free_reacher(**settings: Any) -> FreeReacher:
    """Return ``FreeReacher`` around ``Reacher-v5``, as ``equirl/FreeReacher-v0``.

    Args:
        **settings: As for ``Reacher-v5``.

    Raises:
        ModuleNotFoundError: MuJoCo is not installed.
    """
    needed("mujoco", MUJOCO)
    return FreeReacher(gym.make("Reacher-v5", **settings).unwrapped)


def free_reacher_in_frame(mirrors: bool = True, **settings: Any) -> InPlaneFrame:
    """Return ``FreeReacher`` seen from the arm's first link, as ``equirl/FreeReacherInFrame-v0``.

    The direction of the link never vanishes, so that the frame of SO(2) does not jump.

    Args:
        mirrors: Whether the frame is that of O(2), or of SO(2).
        **settings: As for ``Reacher-v5``.

    Raises:
        ModuleNotFoundError: MuJoCo is not installed.
    """
    arm = free_reacher(**settings)
    return InPlaneFrame(arm, *arm.layout, mirrors=mirrors)
