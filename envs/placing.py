"""Placing an environment in the state that an observation shows, for exact checks of its dynamics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.envs.classic_control import AcrobotEnv, CartPoleEnv, MountainCarEnv
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from numpy.typing import NDArray

from equirl.envs.gridworld import GridWorldEnv

__all__ = ["Placer", "find_placer", "register_placer"]

Placer: TypeAlias = Callable[[Any, NDArray[Any]], None]
"""Puts an environment, just reset, into the state that an observation shows."""

# Wrappers that leave observations and actions as they are.
_TRANSPARENT = (OrderEnforcing, PassiveEnvChecker, TimeLimit)

_PLACERS: dict[type[Any], Placer] = {}


def register_placer(environment_class: type[Any], placer: Placer) -> None:
    """Register how to place environments (or wrappers) of a class: ``placer(environment, observation)``.

    The observation must determine the state; the environment was reset just before.
    """
    _PLACERS[environment_class] = placer


def find_placer(environment: gym.Env[Any, Any]) -> Placer | None:
    """Return what places this environment, looking through time limits and checkers; ``None`` if nothing does."""
    inner: Any = environment
    while _registered(inner) is None and isinstance(inner, _TRANSPARENT):
        inner = inner.env
    placer = _registered(inner)
    return None if placer is None else lambda _, observation: placer(inner, observation)


def _registered(environment: Any) -> Placer | None:
    return next((_PLACERS[ancestor] for ancestor in type(environment).__mro__ if ancestor in _PLACERS), None)


def _place_gridworld(environment: GridWorldEnv, observation: NDArray[Any]) -> None:
    agent, goal = (tuple(int(i) for i in np.argwhere(observation[channel])[0]) for channel in (0, 1))
    environment.reset(options={"agent": agent, "goal": goal, "walls": observation[2].astype(bool)})


def _place_state(environment: Any, observation: NDArray[Any]) -> None:
    environment.state = observation.astype(np.float64)


def _place_acrobot(environment: Any, observation: NDArray[Any]) -> None:
    cos1, sin1, cos2, sin2, velocity1, velocity2 = observation.astype(np.float64)
    environment.state = np.array([np.arctan2(sin1, cos1), np.arctan2(sin2, cos2), velocity1, velocity2])


register_placer(GridWorldEnv, _place_gridworld)
register_placer(CartPoleEnv, _place_state)
register_placer(MountainCarEnv, _place_state)
register_placer(AcrobotEnv, _place_acrobot)
