"""Normalised observations in the folder of an agent: the statistics of its ``VecNormalize`` as data, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from equirl.agents.folder_values import ValueReader, ValueWriter

__all__ = ["normalized", "statistics_alone", "statistics_as_data"]

_SETTINGS = ("norm_obs", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "norm_obs_keys")


def statistics_as_data(normalize: VecNormalize, writer: ValueWriter) -> dict[str, Any]:
    """Return the settings and statistics of a ``VecNormalize`` as JSON.

    Args:
        normalize: The wrapper.
        writer: It keeps the arrays.
    """
    observed: Any = normalize.obs_rms if normalize.norm_obs else None
    parts = observed if isinstance(observed, dict) else {} if observed is None else {"": observed}
    return {
        "settings": {name: writer.value(getattr(normalize, name), f"normalization.{name}") for name in _SETTINGS},
        "dict": isinstance(observed, dict),
        "observations": {key: _moments(part, f"normalization.{key}", writer) for key, part in parts.items()},
        "returns": _moments(normalize.ret_rms, "normalization.returns", writer),
    }


def _moments(statistics: RunningMeanStd, where: str, writer: ValueWriter) -> dict[str, Any]:
    found = {"mean": np.asarray(statistics.mean), "var": np.asarray(statistics.var), "count": float(statistics.count)}
    return {name: writer.value(value, f"{where}.{name}") for name, value in found.items()}


def normalized(environments: VecEnv, about: Mapping[str, Any], reader: ValueReader) -> VecNormalize:
    """Return environments normalised by the statistics of a folder, which stay as they are.

    Args:
        environments: What to normalise; not normalised yet.
        about: What ``statistics_as_data`` returned.
        reader: It has the arrays.

    Raises:
        LookupError: Something is missing.
        TypeError: Something is of another kind.
        ValueError: Statistics of other observations.
    """
    settings = {name: reader.value(about["settings"][name]) for name in _SETTINGS}
    made = VecNormalize(environments, training=False, **settings)
    if made.norm_obs:
        found: Any = {key: _read_moments(part, reader) for key, part in about["observations"].items()}
        found = found if about["dict"] else found[""]
        if _shapes(found) != _shapes(made.obs_rms):
            raise ValueError(
                f"the agent's statistics are of observations of shape {_shapes(found)}, but the environment's are "
                f"{_shapes(made.obs_rms)}; give its own environment, before frames are stacked"
            )
        made.obs_rms = found
    made.ret_rms = _read_moments(about["returns"], reader)
    made.norm_reward = False
    return made


def statistics_alone(space: spaces.Space[Any], about: Mapping[str, Any], reader: ValueReader) -> VecNormalize:
    """Return the ``VecNormalize`` of a folder without its environment: around nothing but a space of observations.

    Args:
        space: The space of observations.
        about: What ``statistics_as_data`` returned.
        reader: It has the arrays.

    Raises:
        LookupError: Something is missing.
        TypeError: Something is of another kind.
        ValueError: Statistics of other observations.
    """
    made = normalized(DummyVecEnv([lambda: _Shape(space)]), about, reader)
    made.norm_reward = bool(reader.value(about["settings"]["norm_reward"]))
    return made


class _Shape(gym.Env[Any, Any]):
    """Nothing but a space of observations."""

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(1)


def _read_moments(about: Mapping[str, Any], reader: ValueReader) -> RunningMeanStd:
    mean, variance = (np.asarray(reader.value(about[name]), dtype=np.float64) for name in ("mean", "var"))
    if mean.shape != variance.shape or not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError("mean and variance are arrays of one shape, and finite")
    made = RunningMeanStd(shape=mean.shape)
    made.mean, made.var, made.count = mean, variance, float(about["count"])
    return made


def _shapes(statistics: Any) -> Any:
    if isinstance(statistics, dict):
        return {key: part.mean.shape for key, part in statistics.items()}
    return statistics.mean.shape
