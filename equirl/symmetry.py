"""Symmetries by name: a builder makes one for given sizes, so that one name serves every grid size; and by file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from equirl.arguments import whole_number
from equirl.mdp_symmetry import MDPSymmetry, ObservationShape, stack_frames
from equirl.names import unknown_name_message
from equirl.symmetry_files import load_symmetry, read_view, save_symmetry

__all__ = [
    "MDPSymmetry",
    "ObservationShape",
    "acts_in",
    "build_symmetry",
    "check_symmetry_name",
    "comes_with_equirl",
    "load_symmetry",
    "read_view",
    "register_symmetry",
    "registered_symmetries",
    "save_symmetry",
    "stack_frames",
]

SymmetryBuilder: TypeAlias = Callable[[ObservationShape, int], MDPSymmetry]

_REGISTRY: dict[str, SymmetryBuilder] = {}
_ACTIONS: dict[str, str] = {}

_ACTION_SPACES = ("Discrete", "MultiDiscrete", "MultiBinary", "Box")


def register_symmetry(name: str, builder: SymmetryBuilder, actions: str = "Discrete") -> None:
    """Register a builder ``(observation shape, number of actions) -> MDPSymmetry`` under a name.

    Args:
        name: The name.
        builder: The builder; for ``Box`` it gets the number of numbers of an action, see ``MDPSymmetry``.
        actions: The kind of action space that it is for: ``"Discrete"``, ``"MultiDiscrete"``, ``"MultiBinary"`` or
            ``"Box"``.

    Raises:
        TypeError: The name is no text, or the builder cannot be called.
        ValueError: The name is empty, or taken by another builder; or another kind of actions.
    """
    if actions not in _ACTION_SPACES:
        raise ValueError(unknown_name_message("kind of action space", actions, _ACTION_SPACES))
    if not isinstance(name, str) or not callable(builder):
        raise TypeError(
            f"a symmetry is registered under a name with a builder that is called; got {name!r}, {builder!r}"
        )
    if not name:
        raise ValueError("a symmetry needs a name to be registered under; got the empty one")
    if not callable(builder) or isinstance(builder, type):
        raise TypeError(
            f"the builder of symmetry {name!r} is a function (observation shape, number of actions) -> MDPSymmetry; "
            f"got {builder!r}"
        )
    if _REGISTRY.get(name, builder) is not builder:
        raise ValueError(f"a symmetry named {name!r} is already registered; choose another name")
    _REGISTRY[name] = builder
    _ACTIONS[name] = actions


def acts_in(name: str) -> str | None:
    """Return the kind of action space that a registered symmetry is for, such as ``"Discrete"``; ``None``: unknown."""
    return _ACTIONS.get(name)


def registered_symmetries() -> list[str]:
    """Return the names of the registered symmetries, sorted."""
    return sorted(_REGISTRY)


def check_symmetry_name(name: str) -> None:
    """Check that a name is registered, or is that of a symmetry file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Unknown name (the message lists the known ones and the nearest), or a file that holds no symmetry.
    """
    if isinstance(name, str) and name.endswith(".toml"):
        load_symmetry(name)
    elif not isinstance(name, str) or name not in _REGISTRY:
        raise ValueError(
            f"{unknown_name_message('symmetry', name, _REGISTRY)} One of your own: import the module that registers "
            "it, or give its file, FILE.toml"
        )


def comes_with_equirl(name: str) -> bool:
    """Return whether a name is registered by equirl itself, so that every process with equirl knows it."""
    builder: Any = _REGISTRY.get(name)
    return str(getattr(getattr(builder, "func", builder), "__module__", "")).startswith("equirl.")


def build_symmetry(name: str, observation_shape: ObservationShape, n_actions: int) -> MDPSymmetry:
    """Return the symmetry registered under ``name``, built for a space.

    Args:
        name: A registered name, such as ``"grid-d4"`` (importing ``equirl.envs`` registers it), or a symmetry file,
            ``"FILE.toml"``.
        observation_shape: Shape of one observation; a mapping of shapes for dict observations.
        n_actions: Number of actions, or of the numbers of an action; see ``MDPSymmetry``.

    Raises:
        ValueError: Unknown name (the message lists the known ones and the nearest), sizes that it does not fit, or a
            file that holds no symmetry.
        FileNotFoundError: There is no such file.
    """
    check_symmetry_name(name)
    n_actions = whole_number(n_actions, "n_actions", 1)
    by_file = name.endswith(".toml")
    symmetry = load_symmetry(name) if by_file else _REGISTRY[name](observation_shape, n_actions)
    symmetry.check_fits(observation_shape, n_actions)
    return symmetry
