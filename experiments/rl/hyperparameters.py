"""The hyperparameters of studies: those of our files for the command line, without what rl_zoo3 alone understands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rl_zoo3.utils import get_wrapper_class

import equirl.agents

__all__ = ["settings_for", "view_of"]

_ZOO_ONLY = ("policy", "n_timesteps", "monitor_kwargs", "callback", "env_wrapper", "n_envs")


def settings_for(algorithm: str, environment_id: str, total_timesteps: int) -> dict[str, Any]:
    """Return the arguments of an algorithm's class, ``n_envs`` kept apart under that key where there is one.

    The exploration lasts as many steps as in our file, however long the run is.

    Args:
        algorithm: By rl_zoo3's name.
        environment_id: One that our file knows.
        total_timesteps: Length of the run.
    """
    entry = _entry(algorithm, environment_id)
    settings = {key: value for key, value in entry.items() if key not in _ZOO_ONLY}
    if "exploration_fraction" in settings:
        settings["exploration_fraction"] *= entry["n_timesteps"] / total_timesteps
    return settings | {"n_envs": entry.get("n_envs", 1)}


def view_of(algorithm: str, environment_id: str) -> Callable[[Any], Any] | None:
    """Return the wrapper that our file puts around an environment, if any."""
    wrapper: Callable[[Any], Any] | None = get_wrapper_class(_entry(algorithm, environment_id))
    return wrapper


def _entry(algorithm: str, environment_id: str) -> dict[str, Any]:
    path = Path(equirl.agents.__file__).parent / "hyperparams" / f"{algorithm}.yml"
    return dict(yaml.safe_load(path.read_text())[environment_id])
