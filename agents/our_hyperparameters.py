"""Hyperparameters of equirl's own files, as arguments of an algorithm's class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rl_zoo3.utils import get_wrapper_class

__all__ = ["planned_timesteps", "settings_for", "view_of"]

_ZOO_ONLY = ("policy", "n_timesteps", "monitor_kwargs", "callback", "env_wrapper", "n_envs")


def settings_for(algorithm: str, environment_id: str, total_timesteps: int) -> dict[str, Any]:
    """Return the arguments of an algorithm's class in our file, and ``n_envs``, without what rl_zoo3 alone understands.

    The exploration lasts as many steps as in our file, however long the run is.
    """
    entry = _entry(algorithm, environment_id)
    settings = {key: value for key, value in entry.items() if key not in _ZOO_ONLY}
    if "exploration_fraction" in settings:
        settings["exploration_fraction"] *= entry["n_timesteps"] / total_timesteps
    return settings | {"n_envs": entry.get("n_envs", 1)}


def planned_timesteps(algorithm: str, environment_id: str) -> int:
    """Return how many environment steps our file plans for an environment."""
    return int(_entry(algorithm, environment_id)["n_timesteps"])


def view_of(algorithm: str, environment_id: str) -> Callable[[Any], Any] | None:
    """Return the wrapper that our file puts around an environment, if any."""
    wrapper: Callable[[Any], Any] | None = get_wrapper_class(_entry(algorithm, environment_id))
    return wrapper


def _entry(algorithm: str, environment_id: str) -> dict[str, Any]:
    path = Path(__file__).parent / "hyperparams" / f"{algorithm}.yml"
    return dict(yaml.safe_load(path.read_text())[environment_id])
