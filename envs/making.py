"""Environments made ready for a symmetry: MiniGrid's are looked at through the view that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from minigrid.minigrid_env import MiniGridEnv

from equirl.envs.grid_views import EgocentricView, FullGridView, GridView
from equirl.envs.wrappers import SymmetricStarts
from equirl.names import unknown_name_message

__all__ = ["SYMMETRY_VIEWS", "make_environment"]

SYMMETRY_VIEWS: dict[str, type[GridView]] = {
    "minigrid-c4": FullGridView,
    "minigrid-d4": FullGridView,
    "minigrid-egocentric-z2": EgocentricView,
}
"""Symmetry name to the view of MiniGrid that carries it."""

_VIEW_SETTINGS = ("planes", "mission", "n_actions")


def make_environment(
    environment_id: str,
    symmetry: str,
    *,
    view_kwargs: Mapping[str, Any] | None = None,
    symmetric_starts: bool = False,
    **kwargs: Any,
) -> gym.Env[Any, Any]:
    """Make an environment on whose observations a symmetry acts.

    Args:
        environment_id: A Gymnasium id: ``"CartPole-v1"``, ``"namespace/Name-v0"``, or ``"module:Name-v0"``, where the
            module is imported first.
        symmetry: Name of the symmetry; for MiniGrid it decides the view.
        view_kwargs: Settings of the view: ``planes``, ``mission``, ``n_actions``.
        symmetric_starts: Whether a random group element moves the world at each reset.
        **kwargs: Settings of the environment.

    Raises:
        ValueError: No such environment, one that cannot be made (a package is missing, a setting has no meaning), a
            MiniGrid environment with a symmetry that has no view, or view settings for another environment.
    """
    if view_kwargs is not None and not isinstance(view_kwargs, Mapping):
        raise TypeError(f"view_kwargs is a dict of settings, such as {{'n_actions': 3}}; got {view_kwargs!r}")
    settings = dict(view_kwargs or {})
    for name in settings:
        if name not in _VIEW_SETTINGS:
            raise ValueError(unknown_name_message("view setting", name, _VIEW_SETTINGS))
    environment = _made(environment_id, kwargs)
    if isinstance(environment.unwrapped, MiniGridEnv):
        if symmetry not in SYMMETRY_VIEWS:
            raise ValueError(
                f"{environment_id} is a MiniGrid environment: its symmetries are {', '.join(SYMMETRY_VIEWS)}; got "
                f"{symmetry!r}"
            )
        environment = SYMMETRY_VIEWS[symmetry](environment, **settings)
    elif settings:
        raise ValueError(f"settings of a view are for MiniGrid environments; {environment_id} is not one")
    return SymmetricStarts(environment, symmetry) if symmetric_starts else environment


def _made(environment_id: str, settings: dict[str, Any]) -> gym.Env[Any, Any]:
    try:
        return gym.make(environment_id, **settings)
    except gym.error.Error as error:
        raise ValueError(f"{environment_id}: {error}") from error
    except ImportError as error:
        hint = ". The module's folder must be the current one or on PYTHONPATH" if ":" in environment_id else ""
        raise ValueError(f"{environment_id}: {str(error).rstrip('.')}{hint}") from error
    except Exception as error:  # the constructor is the environment's: it may raise anything
        with_settings = f" with the settings {settings}" if settings else ""
        message = f"{environment_id} cannot be made{with_settings}: {type(error).__name__}: {error}"
        raise ValueError(message) from error
