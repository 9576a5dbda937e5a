"""SB3's ``Monitor`` at the right place among an environment's wrappers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.atari_wrappers import EpisodicLifeEnv
from stable_baselines3.common.monitor import Monitor

__all__ = ["monitored"]

Wrapper = Callable[[gym.Env[Any, Any]], gym.Env[Any, Any]]


def monitored(wrap: Wrapper | None) -> Wrapper | None:
    """Return a wrapper that leaves ``Monitor`` outside of ``wrap`` where it would otherwise miss ends of episodes.

    SB3 puts ``Monitor`` directly around an environment and the user's wrappers around both. A wrapper that ends
    episodes, such as ``TimeLimit``, is then not seen: returns, success rates and evaluations count other episodes, or
    none. ``Monitor`` stays inside where a wrapper changes rewards or splits episodes into lives, for it is to report
    the environment's own, unless there is a ``TimeLimit``.
    """
    if wrap is None:
        return None

    def wrapped(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        outside = wrap(env)
        if not isinstance(env, Monitor):
            return outside
        layers: list[Any] = []
        layer: Any = outside
        while layer is not env and isinstance(layer, gym.Wrapper):
            layers.append(layer)
            layer = layer.env
        if layer is not env or not layers or not _may_end_episodes(layers):
            return outside
        layers[-1].env = env.env
        env.env = outside
        return env

    return wrapped


def _may_end_episodes(layers: list[Any]) -> bool:
    # rl_zoo3 replaces gymnasium's TimeLimit by one of its own; both have the name.
    if any(base.__name__ == "TimeLimit" for layer in layers for base in type(layer).__mro__):
        return True
    return not any(isinstance(layer, (gym.RewardWrapper, EpisodicLifeEnv)) for layer in layers)
