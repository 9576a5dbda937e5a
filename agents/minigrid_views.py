"""Hyperparameters of MiniGrid's environments: the view that carries a symmetry is one of their wrappers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from minigrid.minigrid_env import MiniGridEnv
from rl_zoo3.utils import get_class_by_name

from equirl.envs.catalog import declared_view_settings
from equirl.envs.grid_views import GridView
from equirl.envs.making import view_of

__all__ = ["is_minigrid", "put_on_view", "view_settings"]


def is_minigrid(environment_id: str) -> bool:
    """Return whether an environment is one of MiniGrid's, or its class is derived from theirs."""
    spec = gym.spec(environment_id)
    try:
        maker = load_env_creator(spec.entry_point) if isinstance(spec.entry_point, str) else spec.entry_point
    except Exception:  # a package is missing or broken; making the environment will say so
        return False
    made: object = maker
    return isinstance(made, type) and issubclass(made, MiniGridEnv)


def put_on_view(
    hyperparams: dict[str, Any],
    environment_id: str,
    symmetry: str,
    replace: bool,
    view_kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Make the view of a symmetry one of the wrappers that the hyperparameters name, in place.

    A view that is there already and carries the symmetry keeps its settings. Another view is replaced; what it says
    about mission and actions is kept, its planes are not, for the views offer different ones. A symmetry file that
    names its view decides alone.

    Args:
        hyperparams: In rl_zoo3's form.
        environment_id: One of MiniGrid's.
        symmetry: Name of a symmetry that has a view, or a symmetry file.
        replace: Whether all other wrappers are replaced, too: rl_zoo3's own file flattens observations.
        view_kwargs: Settings of the view that win over all others.

    Raises:
        ValueError: The symmetry has no view.
    """
    view, of_file = view_of(environment_id, symmetry)
    entries = hyperparams.get("env_wrapper") or []
    entries = list(entries) if isinstance(entries, list) else [entries]
    settings = declared_view_settings(environment_id, symmetry) if of_file is None else of_file
    kept = []
    for entry in entries:
        found = _view(entry)
        if found is None:
            kept += [] if replace else [entry]
            continue
        view_class, given = found
        if of_file is not None:
            continue
        if issubclass(view_class, view):
            if (given or not settings) and not view_kwargs:
                return
            settings = given or settings
        else:
            settings.update({name: given[name] for name in ("mission", "n_actions") if name in given})
    settings = {**settings, **(view_kwargs or {})}
    name = f"equirl.envs.{view.__name__}"
    # The innermost wrapper, for a view looks at MiniGrid's own observations.
    hyperparams["env_wrapper"] = [{name: settings} if settings else name, *kept]


def view_settings(wrappers: list[tuple[str, dict[str, Any]]]) -> dict[str, Any] | None:
    """Return the settings of the view among wrappers, ``None`` if there is none."""
    for name, settings in wrappers:
        if _view({name: settings}) is not None:
            return settings
    return None


def _view(entry: Any) -> tuple[type[GridView], dict[str, Any]] | None:
    """Return the class and the settings of a wrapper if it is a view."""
    name, settings = next(iter(entry.items())) if isinstance(entry, dict) and entry else (entry, None)
    if not isinstance(name, str) or "." not in name:
        return None
    wrapper = get_class_by_name(name)
    if not (isinstance(wrapper, type) and issubclass(wrapper, GridView)):
        return None
    return wrapper, dict(settings or {})
