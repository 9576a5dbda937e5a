"""Environments made ready for a symmetry: MiniGrid's are looked at through the view that carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from minigrid.minigrid_env import MiniGridEnv

from equirl.envs.grid_views import EgocentricView, FullGridView, GridView
from equirl.envs.wrappers import SymmetricStarts

__all__ = ["SYMMETRY_VIEWS", "make_environment"]

SYMMETRY_VIEWS: dict[str, type[GridView]] = {
    "minigrid-c4": FullGridView,
    "minigrid-d4": FullGridView,
    "minigrid-egocentric-z2": EgocentricView,
}
"""Symmetry name to the view of MiniGrid that carries it."""


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
        environment_id: A Gymnasium id.
        symmetry: Name of the symmetry; for MiniGrid it decides the view.
        view_kwargs: Settings of the view: ``planes``, ``mission``, ``n_actions``.
        symmetric_starts: Whether a random group element moves the world at each reset.
        **kwargs: Settings of the environment.

    Raises:
        ValueError: No such environment, a setting it does not take, a MiniGrid environment with a symmetry that has no
            view, or view settings for another environment.
    """
    try:
        environment = gym.make(environment_id, **kwargs)
    except gym.error.Error as error:
        raise ValueError(f"{environment_id}: {error}") from error
    if isinstance(environment.unwrapped, MiniGridEnv):
        if symmetry not in SYMMETRY_VIEWS:
            raise ValueError(
                f"{environment_id} is a MiniGrid environment: its symmetries are {', '.join(SYMMETRY_VIEWS)}; got "
                f"{symmetry!r}"
            )
        environment = SYMMETRY_VIEWS[symmetry](environment, **(view_kwargs or {}))
    elif view_kwargs:
        raise ValueError(f"settings of a view are for MiniGrid environments; {environment_id} is not one")
    return SymmetricStarts(environment, symmetry) if symmetric_starts else environment
