"""Hyperparameters of equirl's own files, as arguments of an algorithm's class."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rl_zoo3.utils import get_wrapper_class

__all__ = ["of_method", "planned_timesteps", "settings_for", "view_of", "with_exploration"]

_FOLDER = Path(__file__).parent / "hyperparams"
_ZOO_ONLY = ("policy", "n_timesteps", "monitor_kwargs", "callback", "env_wrapper", "n_envs")


def of_method(algorithm: str, environment_id: str, method: str | None, symmetry: str | None = None) -> dict[str, Any]:
    """Return the hyperparameters that our files have for one method, to be put over those for all.

    ``ALGORITHM_methods.yml`` has a key for each method, such as ``plain`` or ``canonical``, or for a method under one
    symmetry, ``grid-c4/canonical``, which wins.

    Args:
        algorithm: By rl_zoo3's name.
        environment_id: Gymnasium id.
        method: Name of the method; ``None``: nothing.
        symmetry: Name of the symmetry.
    """
    path = _FOLDER / f"{algorithm}_methods.yml"
    entries = _read(path).get(environment_id, {}) if path.exists() else {}
    return copy.deepcopy({**entries.get(method, {}), **entries.get(f"{symmetry}/{method}", {})})


def settings_for(
    algorithm: str,
    environment_id: str,
    total_timesteps: int,
    method: str | None = None,
    symmetry: str | None = None,
) -> dict[str, Any]:
    """Return the arguments of an algorithm's class in our file, and ``n_envs``, without what rl_zoo3 alone understands.

    The exploration lasts as many steps as in our file, however long the run is.

    Args:
        algorithm: By rl_zoo3's name.
        environment_id: Gymnasium id.
        total_timesteps: Environment steps of the run.
        method: Method whose own hyperparameters are taken, see ``of_method``.
        symmetry: Its symmetry.
    """
    entry = _entry(algorithm, environment_id) | of_method(algorithm, environment_id, method, symmetry)
    settings = {key: value for key, value in entry.items() if key not in _ZOO_ONLY}
    if "exploration_fraction" in settings:
        share = settings["exploration_fraction"] * entry["n_timesteps"] / total_timesteps
        settings["exploration_fraction"] = min(1.0, share)
    return settings | {"n_envs": entry.get("n_envs", 1)}


def with_exploration(settings: dict[str, Any], total_timesteps: int) -> dict[str, Any]:
    """Return settings of DQN with ``exploration_steps``, if they are there, as the share of the run that DQN takes.

    Args:
        settings: Arguments of DQN's class, and perhaps ``exploration_steps``.
        total_timesteps: Environment steps of the run.
    """
    if "exploration_steps" not in settings:
        return settings
    rest = {key: value for key, value in settings.items() if key != "exploration_steps"}
    return rest | {"exploration_fraction": min(1.0, settings["exploration_steps"] / total_timesteps)}


def planned_timesteps(algorithm: str, environment_id: str) -> int:
    """Return how many environment steps our file plans for an environment."""
    return int(_entry(algorithm, environment_id)["n_timesteps"])


def view_of(algorithm: str, environment_id: str) -> Callable[[Any], Any] | None:
    """Return the wrapper that our file puts around an environment, if any."""
    wrapper: Callable[[Any], Any] | None = get_wrapper_class(_entry(algorithm, environment_id))
    return wrapper


def _entry(algorithm: str, environment_id: str) -> dict[str, Any]:
    return copy.deepcopy(dict(_read(_FOLDER / f"{algorithm}.yml")[environment_id]))


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    """Return a file of ours; a study asks for it at each run, and reading takes some milliseconds."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
