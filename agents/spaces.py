"""Spaces as networks of agents see them: the size of their input, and symmetries on their device."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from torch import Tensor

import equirl.envs  # noqa: F401  (registers the symmetries of our environments)
from equirl.envs.spaces import observation_shape, resolve_symmetry
from equirl.orbit import flatten_rows
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry, ObservationShape

__all__ = ["NetworkInputs", "check_actions", "flat_size", "observation_shape", "resolve_symmetry", "symmetry_on"]


def check_actions(action_space: spaces.Space[Any], taken: tuple[type[spaces.Space[Any]], ...], who: str) -> None:
    """Raise unless a policy takes actions of a space.

    Args:
        action_space: The space.
        taken: The kinds of spaces that it takes.
        who: Its name, for the message.

    Raises:
        TypeError: It takes others.
    """
    if not isinstance(action_space, taken):
        kinds = " or ".join(kind.__name__ for kind in taken)
        raise TypeError(
            f"{who} acts in {kinds} spaces; got {action_space}. `equirl envs` says which algorithm goes with which "
            "world"
        )


def flat_size(shape: ObservationShape) -> int:
    """Return the number of values in one observation."""
    if isinstance(shape, tuple):
        return math.prod(shape)
    return sum(flat_size(part) for part in shape.values())


class NetworkInputs:
    """Observations as SB3's networks read them, flattened: images divided by 255, one-hot where they number things.

    Args:
        space: The space of observations.
        normalize_images: Whether images of 0 to 255 are divided by 255; a policy's own setting.
    """

    _as_it_is: bool = False
    """Whether a network reads the observations' own numbers; not in what an earlier version pickled."""

    def __init__(self, space: spaces.Space[Any], normalize_images: bool) -> None:
        self.space = space
        self.normalize_images = normalize_images
        self.size = _read_size(space)
        image = normalize_images and isinstance(space, spaces.Box) and is_image_space(space)
        self._as_it_is = isinstance(space, spaces.Box) and not image

    def __call__(self, rows: Tree) -> Tensor:
        """Return what a network reads of observations ``[N, *observation]``: floats, ``[N, size]``."""
        if self._as_it_is and isinstance(rows, Tensor):  # SB3 would look at the bounds of the space each time
            return flatten_rows(rows.float())
        prepared: Any = preprocess_obs(rows, self.space, normalize_images=self.normalize_images)
        return flatten_rows(prepared)


def _read_size(space: spaces.Space[Any]) -> int:
    """Return the number of values that a network reads of one observation."""
    if isinstance(space, spaces.Dict):
        return sum(_read_size(part) for part in space.spaces.values())
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    return math.prod(space.shape or ())


def symmetry_on(symmetry: MDPSymmetry, device: torch.device | str) -> MDPSymmetry:
    """Return a copy of a symmetry with its tables on a device; the given one stays where it is."""
    return MDPSymmetry(
        symmetry.name, copy.deepcopy(symmetry.observation).to(device), copy.deepcopy(symmetry.action).to(device)
    )
