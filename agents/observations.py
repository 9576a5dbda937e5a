"""Observations that users hand over, as arrays, lists, tensors or dicts of them, made tensors that fit a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space, maybe_transpose
from torch import Tensor

from equirl.agents.spaces import observation_shape
from equirl.representations import Tree

__all__ = ["as_observations", "as_tensors"]


def as_tensors(given: Any) -> Tree:
    """Return arrays, lists or tensors of numbers, or a dict of them, as tensors.

    Raises:
        TypeError: Something that holds no numbers.
    """
    if isinstance(given, Mapping):
        return {key: as_tensors(part) for key, part in given.items()}
    try:
        if isinstance(given, (list, tuple)) and given and all(isinstance(row, Tensor) for row in given):
            given = torch.stack(tuple(given))
        if not isinstance(given, Tensor):
            array = np.array([np.asarray(row) for row in given] if isinstance(given, (list, tuple)) else given)
            if array.dtype.kind not in "biuf":
                raise TypeError(f"dtype {array.dtype}")
            wide = array.dtype.kind == "u" and array.dtype.itemsize > 1  # torch does not compute with these
            given = torch.as_tensor(array.astype(np.int64 if wide else array.dtype.newbyteorder("=")))
        if given.is_complex():
            raise TypeError(f"dtype {given.dtype}")
    except (RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            "observations must be a tensor or an array of numbers, [N, *observation], or a dict of such; got "
            f"{type(given).__name__} ({error})"
        ) from error
    return cast(Tensor, given).detach()


def as_observations(given: Any, space: spaces.Space[Any], device: torch.device | str) -> Tree:
    """Return observations as tensors ``[N, *observation]`` on a device, checked against a space.

    Images with the channels last are transposed, as Stable-Baselines3 does. ``Discrete`` observations may come as
    ``[N]`` or, as buffers keep them, as ``[N, 1]``; they become integers ``[N]``.

    Args:
        given: A tensor, an array or a list of observations; for ``Dict`` spaces a dict of such or a list of dicts.
        space: The agent's observation space.
        device: Where the tensors are to be.

    Raises:
        TypeError: Something that holds no numbers.
        ValueError: No observations, another shape, other keys, NaN or infinite values, or numbers that a discrete space
            does not have; the message names the first.
    """
    if isinstance(space, spaces.Dict):
        return _dict_observations(given, space, device)
    if isinstance(given, Mapping):
        raise TypeError(f"observations of {space} are one tensor; got a dict with the keys {sorted(map(str, given))}")
    return _fitting(as_tensors(given), space, "").to(device)


def _dict_observations(given: Any, space: spaces.Dict, device: torch.device | str) -> Tree:
    expected = sorted(space.spaces)
    if isinstance(given, (list, tuple)) and given and all(isinstance(each, Mapping) for each in given):
        given = {key: [each.get(key) for each in given] for key in given[0]}
    if not isinstance(given, Mapping):
        raise TypeError(f"observations of a Dict space are a dict with the keys {expected}; got {type(given).__name__}")
    if set(given) != set(expected):
        raise ValueError(f"observations must have the keys {expected}; got {sorted(map(str, given))}")
    parts: dict[str, Any] = {}
    for key, part in space.spaces.items():
        parts[key] = _fitting(as_tensors(given[key]), part, f" of {key!r}").to(device)
    lengths = {key: len(part) for key, part in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"all entries of Dict observations must have the same length; got {lengths}")
    return parts


def _fitting(observations: Tree, space: spaces.Space[Any], what: str) -> Tensor:
    shape = observation_shape(space)
    if not isinstance(observations, Tensor) or not isinstance(shape, tuple):
        raise ValueError(f"observations{what} must be a tensor [N, *observation]; nested dicts are not taken")
    if isinstance(space, spaces.Discrete) and observations.ndim == 2 and observations.shape[1] == 1:
        observations = observations.flatten()
    if observations.shape[1:] != shape and observations.ndim == 4 and is_image_space(space):
        observations = torch.as_tensor(maybe_transpose(observations.cpu().numpy(), space))
    if observations.ndim != 1 + len(shape) or observations.shape[1:] != shape:
        axes = ", ".join(["N", *map(str, shape)])
        raise ValueError(
            f"observations{what} must have the shape [{axes}]; got {list(observations.shape)}. A single observation "
            "needs a first axis of length 1"
        )
    if len(observations) == 0:
        raise ValueError(f"there are no observations{what}: got the shape {list(observations.shape)}")
    finite = torch.isfinite(observations)
    if not bool(finite.all()):
        row = int((~finite.reshape(len(finite), -1)).any(dim=1).nonzero()[0])
        values = observations[row].flatten()
        raise ValueError(
            f"observation {row}{what} holds {float(values[~torch.isfinite(values)][0])}; all must be finite"
        )
    return observations if isinstance(space, spaces.Box) else _whole_numbers(observations, space, what)


def _whole_numbers(observations: Tensor, space: spaces.Space[Any], what: str) -> Tensor:
    """Return observations of a discrete kind as integers, checked."""
    whole = observations if not observations.is_floating_point() else observations.round()
    if isinstance(space, spaces.Discrete):
        low, high = int(space.start), int(space.start) + int(space.n) - 1
        outside = (whole < low) | (whole > high)
    elif isinstance(space, spaces.MultiDiscrete):
        lows = torch.as_tensor(space.start, device=whole.device)
        outside = (whole < lows) | (whole >= lows + torch.as_tensor(space.nvec, device=whole.device))
    else:
        outside = (whole < 0) | (whole > 1)
    wrong = outside | (whole != observations)
    if bool(wrong.any()):
        row = int(wrong.reshape(len(wrong), -1).any(dim=1).nonzero()[0])
        raise ValueError(f"observation {row}{what} is {observations[row].tolist()}, which is not in {space}")
    return whole.long() if not isinstance(space, spaces.MultiBinary) else whole.to(torch.int8)
