"""Carrying an environment from a state ``s`` to ``gs``: what exact checks and symmetric starts rest on.

There are two ways. Where the observation determines the state, a *placer* puts the environment into the state that an
observation shows. Where it does not (a partial view), the environment or a wrapper of it has a method
``transform_state(symmetry, element) -> observation``. MuJoCo's robots and LunarLander need neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import (
    AcrobotEnv,
    CartPoleEnv,
    Continuous_MountainCarEnv,
    MountainCarEnv,
    PendulumEnv,
)
from gymnasium.envs.toy_text.cliffwalking import CliffWalkingEnv
from gymnasium.envs.toy_text.frozen_lake import FrozenLakeEnv
from gymnasium.envs.toy_text.taxi import TaxiEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit
from numpy.typing import NDArray

from equirl.envs.gridworld import GridWorldEnv
from equirl.envs.lander_states import lander_states
from equirl.envs.mujoco_states import mujoco_states
from equirl.envs.observations import ObservationLayout
from equirl.envs.point_robot import PointRobotEnv
from equirl.envs.swarm import SwarmEnv
from equirl.symmetry import MDPSymmetry

__all__ = [
    *("Hiding", "Placer", "Restorable", "Transformable", "find_placer", "find_transformable", "register_placer"),
    "transform_state",
]

Placer: TypeAlias = Callable[[Any, Any], None]
"""Puts an environment, just reset, into the state that an observation shows."""


@runtime_checkable
class Transformable(Protocol):
    """An environment or wrapper that can carry its own state from ``s`` to ``gs``."""

    def transform_state(self, symmetry: MDPSymmetry, element: int) -> Any:
        """Carry the state to ``gs`` and return the observation there."""


@runtime_checkable
class Hiding(Transformable, Protocol):
    """What carries a state of which the agent sees a part, and can show all of it."""

    def hidden_state(self) -> NDArray[Any]:
        """Return the state as numbers, ``[size]``, in the frame of the agent: what it sees now, and may see later."""


@runtime_checkable
class Restorable(Transformable, Protocol):
    """What carries a state and also saves and restores it, faster than a copy of the environment would."""

    def save_state(self) -> Any:
        """Return the state; what the environment shows is brought up to date with it."""

    def restore_state(self, state: Any) -> None:
        """Put the environment into a saved state."""

    def observe(self) -> Any:
        """Return the observation of the state that was saved or restored."""

    def explain(self, symmetry: MDPSymmetry, element: int, agree: Callable[[], bool]) -> str:
        """Say why steps from ``s`` and ``gs`` differ; ``agree`` takes them once more, and says whether they agree."""

    def remark(self, symmetry: MDPSymmetry) -> str:
        """Say what is not symmetric, though no step shows it; empty where nothing is known."""


# Wrappers that leave observations and actions as they are.
_TRANSPARENT: tuple[type[Any], ...] = (
    OrderEnforcing,
    PassiveEnvChecker,
    TimeLimit,
    RecordEpisodeStatistics,
    gym.RewardWrapper,
)

_PLACERS: dict[type[Any], Placer] = {}


def register_placer(environment_class: type[Any], placer: Placer) -> None:
    """Register how to place environments (or wrappers) of a class: ``placer(environment, observation)``.

    The observation must determine the state; the environment was reset just before.
    """
    _PLACERS[environment_class] = placer


def register_transparent(wrapper_class: type[Any]) -> None:
    """Register a wrapper that leaves observations and actions as they are, to be looked through."""
    global _TRANSPARENT
    _TRANSPARENT = (*_TRANSPARENT, wrapper_class)


def find_placer(environment: gym.Env[Any, Any]) -> Placer | None:
    """Return what places this environment, looking through time limits, checkers and wrappers of actions, or ``None``.

    An ``ActionWrapper`` shows what the environment shows, so that an observation tells the state behind it, too.
    """
    inner = _look_through(environment, (*_TRANSPARENT, gym.ActionWrapper))
    placer = _registered(inner)
    return None if placer is None else lambda _, observation: placer(inner, observation)


def find_transformable(environment: gym.Env[Any, Any]) -> Transformable | None:
    """Return what carries the environment's state, looking through time limits and checkers; ``None`` if nothing does.

    That is the environment or a wrapper of it, or what sets the states of MuJoCo's robots and of LunarLander.
    """
    inner = _look_through(environment)
    if isinstance(inner, Transformable):
        return inner
    if _registered(inner) is not None:
        return None
    return mujoco_states(inner) or lander_states(inner)


def transform_state(environment: gym.Env[Any, Any], symmetry: MDPSymmetry, element: int, observation: Any) -> Any:
    """Carry an environment from the state that shows ``observation`` to its transform; return the observation there.

    Raises:
        TypeError: Nothing tells how; the message says what to register.
        ValueError: The transformed observation is none of the environment's, such as -1 among unsigned integers.
    """
    if (transformable := find_transformable(environment)) is not None:
        return transformable.transform_state(symmetry, element)
    if (placer := find_placer(environment)) is None:
        raise TypeError(
            f"{type(environment.unwrapped).__name__} cannot be carried to a transformed state: register a placer "
            "(equirl.envs.register_placer), or look at a MiniGrid world through FullGridView or EgocentricView"
        )
    layout = ObservationLayout(environment.observation_space)
    turned = layout.hide(layout.turn_one(symmetry, element, layout.show(observation)), observation)
    placer(environment, turned)
    return turned


def _look_through(environment: Any, transparent: tuple[type[Any], ...] | None = None) -> Any:
    inner = environment
    while isinstance(inner, transparent or _TRANSPARENT) and _registered(inner) is None:
        inner = inner.env
    return inner


def _registered(environment: Any) -> Placer | None:
    return next((_PLACERS[ancestor] for ancestor in type(environment).__mro__ if ancestor in _PLACERS), None)


def _place_gridworld(environment: GridWorldEnv, observation: NDArray[Any]) -> None:
    for channel, what in enumerate(("agent", "goal")):
        if np.count_nonzero(observation[channel]) != 1:
            raise ValueError(
                f"channel {channel} of a GridWorld marks one cell, the {what}'s; got {observation[channel]}"
            )
    agent, goal = (tuple(int(i) for i in np.argwhere(observation[channel])[0]) for channel in (0, 1))
    environment.reset(options={"agent": agent, "goal": goal, "walls": observation[2].astype(bool)})


def _place_state(environment: Any, observation: NDArray[Any]) -> None:
    environment.state = observation.astype(np.float64)


def _place_acrobot(environment: Any, observation: NDArray[Any]) -> None:
    cos1, sin1, cos2, sin2, velocity1, velocity2 = observation.astype(np.float64)
    environment.state = np.array([np.arctan2(sin1, cos1), np.arctan2(sin2, cos2), velocity1, velocity2])


def _place_pendulum(environment: Any, observation: NDArray[Any]) -> None:
    cos, sin, velocity = observation.astype(np.float64)
    environment.state = np.array([np.arctan2(sin, cos), velocity])


def _place_value(environment: Any, observation: Any) -> None:
    environment.s = int(observation)


def _place_point(environment: PointRobotEnv, observation: NDArray[Any]) -> None:
    seen = observation.astype(np.float64).reshape(-1, 2)
    goal, velocity, obstacles = seen[:1], seen[1:2], seen[2:]
    environment.reset(options={"state": np.concatenate([np.zeros((1, 2)), velocity, goal, obstacles])})


def _place_swarm(environment: SwarmEnv, observation: NDArray[Any]) -> None:
    to_goal, velocities = observation.astype(np.float64).reshape(-1, 2, 2).transpose(1, 0, 2)
    environment.reset(options={"state": np.concatenate([np.zeros((1, 2)), -to_goal, velocities])})


register_placer(GridWorldEnv, _place_gridworld)
register_placer(PointRobotEnv, _place_point)
register_placer(SwarmEnv, _place_swarm)
register_placer(CartPoleEnv, _place_state)
register_placer(MountainCarEnv, _place_state)
register_placer(AcrobotEnv, _place_acrobot)
register_placer(PendulumEnv, _place_pendulum)
register_placer(Continuous_MountainCarEnv, _place_state)
for _tabular in (FrozenLakeEnv, TaxiEnv, CliffWalkingEnv):
    register_placer(_tabular, _place_value)
