"""Environments made ready for a symmetry: MiniGrid's are looked at through the view that carries it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from minigrid.minigrid_env import MiniGridEnv

from equirl.envs.grid_views import EgocentricView, FullGridView, GridView
from equirl.envs.wrappers import SymmetricStarts
from equirl.names import unknown_name_message
from equirl.symmetry import load_symmetry, read_view

__all__ = [
    "SYMMETRY_VIEWS",
    "failure_message",
    "has_view",
    "make_as_registered",
    "make_environment",
    "render_problem",
    "view_of",
    "view_table",
]

SYMMETRY_VIEWS: dict[str, type[GridView]] = {
    "minigrid-c4": FullGridView,
    "minigrid-d4": FullGridView,
    "minigrid-egocentric-z2": EgocentricView,
}
"""Symmetry name to the view of MiniGrid that carries it."""

_VIEWS: dict[str, type[GridView]] = {view.__name__: view for view in (FullGridView, EgocentricView)}
_VIEW_SETTINGS = ("planes", "mission", "n_actions")


def view_of(environment_id: str, symmetry: str) -> tuple[type[GridView], dict[str, Any] | None]:
    """Return the view through which a MiniGrid environment has a symmetry, and its settings where a file names them.

    A symmetry file names its view in the table ``[view]``; without one, the name of the symmetry tells the view, and
    the settings are ``None``.

    Args:
        environment_id: One of MiniGrid's, for the message.
        symmetry: Name of the symmetry, or a symmetry file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The symmetry has no view, or the file names one that is not there.
    """
    if not has_view(symmetry):
        mend = ", or a file whose table [view] says how it is looked at"
        raise ValueError(
            f"{environment_id} is a MiniGrid environment: its symmetries are {', '.join(SYMMETRY_VIEWS)}{mend}; got "
            f"{symmetry!r}"
        )
    if not symmetry.endswith(".toml"):
        return SYMMETRY_VIEWS[symmetry], None
    if (settings := read_view(symmetry)) is None:
        return SYMMETRY_VIEWS[load_symmetry(symmetry).name], None
    given = settings.pop("class")
    if given not in _VIEWS:
        raise ValueError(f"{symmetry}: {unknown_name_message('view', given, _VIEWS)}")
    _check_settings(settings)
    return _VIEWS[given], settings


def has_view(symmetry: Any) -> bool:
    """Return whether a symmetry tells the view of MiniGrid's worlds: by its name, or a file by its table or its name.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no symmetry.
    """
    if isinstance(symmetry, str) and symmetry.endswith(".toml"):
        return read_view(symmetry) is not None or load_symmetry(symmetry).name in SYMMETRY_VIEWS
    return symmetry in SYMMETRY_VIEWS


def view_table(environment: gym.Env[Any, Any]) -> dict[str, Any] | None:
    """Return the view of a MiniGrid environment as a symmetry file holds it, ``None`` where there is none.

    ``save_symmetry(symmetry, path, view=view_table(environment))`` keeps it with the symmetry.

    Args:
        environment: An environment, perhaps in wrappers.
    """
    layer: Any = environment
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, GridView) and type(layer) in _VIEWS.values():
            settings = {name: value for name, value in layer.settings.items() if value not in (None, False)}
            return {"class": type(layer).__name__, **settings}
        layer = layer.env
    return None


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in settings:
        if name not in _VIEW_SETTINGS:
            raise ValueError(unknown_name_message("view setting", name, _VIEW_SETTINGS))


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
        symmetry: Name of the symmetry, or a symmetry file; for MiniGrid it decides the view.
        view_kwargs: Settings of the view: ``planes``, ``mission``, ``n_actions``; over those of a symmetry file.
        symmetric_starts: Whether a random group element moves the world at each reset.
        **kwargs: Settings of the environment.

    Raises:
        ValueError: No such environment, one that cannot be made (a package is missing, a setting has no meaning), a
            MiniGrid environment with a symmetry that has no view, or view settings for another environment.
    """
    if view_kwargs is not None and not isinstance(view_kwargs, Mapping):
        raise TypeError(f"view_kwargs is a dict of settings, such as {{'n_actions': 3}}; got {view_kwargs!r}")
    settings = dict(view_kwargs or {})
    _check_settings(settings)
    environment = make_as_registered(environment_id, **kwargs)
    if isinstance(environment.unwrapped, MiniGridEnv):
        view, of_file = view_of(environment_id, symmetry)
        environment = view(environment, **{**(of_file or {}), **settings})
    elif settings:
        raise ValueError(f"settings of a view are for MiniGrid environments; {environment_id} is not one")
    return SymmetricStarts(environment, symmetry) if symmetric_starts else environment


def make_as_registered(environment_id: str, **kwargs: Any) -> gym.Env[Any, Any]:
    """Make an environment without a view, as ``gym.make`` does, with errors of one kind.

    Args:
        environment_id: As for ``make_environment``.
        **kwargs: Settings of the environment.

    Raises:
        ValueError: No such environment, or one that cannot be made.
    """
    try:
        return gym.make(environment_id, **kwargs)
    except gym.error.Error as error:
        raise ValueError(f"{environment_id}: {error}") from error
    except ImportError as error:
        hint = ". The module's folder must be the current one or on PYTHONPATH" if ":" in environment_id else ""
        raise ValueError(f"{environment_id}: {str(error).rstrip('.')}{hint}") from error
    except Exception as error:  # the constructor is the environment's: it may raise anything
        raise ValueError(failure_message(environment_id, kwargs, error)) from error


def failure_message(environment_id: str, settings: Mapping[str, Any], error: Exception) -> str:
    """Return in one line why an environment cannot be made, and which settings it takes if it was given another one."""
    given = ", ".join(f"{key}:{value}" for key, value in settings.items())
    reason = str(error).partition(" was raised from the environment creator")[0]
    takes = _settings_of(environment_id) if "unexpected keyword argument" in reason else []
    known = f"; its settings are {', '.join(takes)}" if takes else ""
    return (
        f"environment {environment_id}{f' with {given}' if given else ''} cannot be made: {type(error).__name__}: "
        f"{reason}{known}"
    )


def render_problem(environment_id: str, mode: str) -> str | None:
    """Return why an environment cannot be rendered, as far as its class tells; ``None`` if nothing speaks against it.

    Args:
        environment_id: Id of a registered environment.
        mode: ``"human"`` or ``"rgb_array"``; Gymnasium makes a window of the pictures.
    """
    creator = _creator_of(environment_id)
    modes = (getattr(creator, "metadata", None) or {}).get("render_modes", [])
    if creator is None or not isinstance(creator, type):
        return None
    if "render_mode" not in _settings_of(environment_id, or_any=True):
        return f"{creator.__name__}.__init__ takes no render_mode"
    if mode in modes or "rgb_array" in modes:
        return None
    return f"{creator.__name__}.metadata['render_modes'] has no 'rgb_array'"


def _creator_of(environment_id: str) -> Any:
    try:
        entry = gym.spec(environment_id).entry_point
        return load_env_creator(entry) if isinstance(entry, str) else entry
    except (gym.error.Error, ImportError, AttributeError):
        return None


def _settings_of(environment_id: str, or_any: bool = False) -> list[str]:
    """Return the names of the settings that an environment's constructor has; none if they cannot be told.

    With ``or_any`` a constructor that takes any settings counts as one that has ``render_mode``.
    """
    try:
        parameters = inspect.signature(_creator_of(environment_id)).parameters.values()
    except (TypeError, ValueError):
        return []
    found = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = or_any and any(p.kind is p.VAR_KEYWORD for p in parameters)
    return [*found, "render_mode"] if takes_any else found
