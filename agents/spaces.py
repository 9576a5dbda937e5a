"""From Gymnasium spaces to symmetries: sizes, and a symmetry found by name."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from gymnasium import spaces

import equirl.envs  # noqa: F401  (registers the symmetries of our environments)
from equirl.symmetry import MDPSymmetry, ObservationShape, build_symmetry

__all__ = ["flat_size", "observation_shape", "resolve_symmetry", "symmetry_on"]


def observation_shape(space: spaces.Space[Any]) -> ObservationShape:
    """Return the shape of one observation: a tuple, ``()`` for ``Discrete``, a mapping for ``Dict``.

    Raises:
        TypeError: A space without a fixed shape, such as ``Text`` or ``Sequence``.
    """
    if isinstance(space, spaces.Dict):
        return {key: observation_shape(part) for key, part in space.spaces.items()}
    if isinstance(space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        return tuple(space.shape or ())
    raise TypeError(f"observations of {space} have no fixed shape; wrap the environment to give Box, Discrete or Dict")


def flat_size(shape: ObservationShape) -> int:
    """Return the number of values in one observation."""
    if isinstance(shape, tuple):
        return math.prod(shape)
    return sum(flat_size(part) for part in shape.values())


def resolve_symmetry(
    symmetry: str | MDPSymmetry, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> MDPSymmetry:
    """Return the symmetry, built for the spaces where it is given by name, and checked against them.

    Args:
        symmetry: A registered name, such as ``"grid-d4"``, or an ``MDPSymmetry``.
        observation_space: As SB3 sees it: images channels first.
        action_space: ``Discrete``.

    Raises:
        TypeError: The actions are not ``Discrete``, or ``symmetry`` is neither a name nor an ``MDPSymmetry``.
        ValueError: Unknown name, or sizes that do not fit the spaces.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise TypeError(
            f"an MDPSymmetry permutes the actions of a Discrete space; got {action_space}. Discretize the actions, or "
            "use an algorithm for continuous ones without a symmetry"
        )
    shape = observation_shape(observation_space)
    if isinstance(symmetry, str):
        return build_symmetry(symmetry, shape, int(action_space.n))
    if not isinstance(symmetry, MDPSymmetry):
        raise TypeError(f"symmetry must be a registered name or an MDPSymmetry; got {symmetry!r}")
    symmetry.check_fits(shape, int(action_space.n))
    return symmetry


def symmetry_on(symmetry: MDPSymmetry, device: torch.device | str) -> MDPSymmetry:
    """Return a copy of a symmetry with its tables on a device; the given one stays where it is."""
    return MDPSymmetry(
        symmetry.name, copy.deepcopy(symmetry.observation).to(device), copy.deepcopy(symmetry.action).to(device)
    )
