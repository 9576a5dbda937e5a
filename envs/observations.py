"""Observations as policies see them: arrays in Stable-Baselines3's order of axes, nested where the space is a Dict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.actions import ActionLayout, uneven_block
from equirl.envs.mujoco_symmetry import MIRROR, mujoco_mirror
from equirl.mappings import MappingRepresentation
from equirl.matrices import MatrixRepresentation
from equirl.representations import Representation
from equirl.symmetry import MDPSymmetry, ObservationShape, build_symmetry, registered_symmetries
from equirl.tokens import TokenRepresentation

__all__ = ["Observation", "ObservationLayout", "fit_symmetry"]

Observation: TypeAlias = Any
"""One observation in policy form: an array, or a dict of them."""

_LEAVES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class ObservationLayout:
    """Converts the observations of a space to the form that policies take, and back.

    Pictures (``uint8``, bounds 0 and 255) with their channels last are shown channels first, as SB3 shows them. A
    ``Discrete`` observation is an array without axes.

    Args:
        space: ``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or a ``Dict`` of these.

    Raises:
        TypeError: Another kind of space.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space
        self._parts: dict[str, ObservationLayout] | None = None
        self.shape: ObservationShape
        self.transposes: bool
        if isinstance(space, spaces.Dict):
            self._parts = {key: ObservationLayout(part) for key, part in space.spaces.items()}
            self.shape = {key: part.shape for key, part in self._parts.items()}
            self.transposes = any(part.transposes for part in self._parts.values())
            return
        if not isinstance(space, _LEAVES):
            raise TypeError(
                f"a symmetry acts on Box, Discrete, MultiDiscrete or MultiBinary observations, or a Dict of them; got "
                f"{space}. Wrap the environment to give one of these"
            )
        self.transposes = _is_picture_channels_last(space)
        shape = tuple(space.shape or ())
        self.shape = (shape[2], shape[0], shape[1]) if self.transposes else shape

    def show(self, observation: Any) -> Observation:
        """Return an observation of the environment in policy form.

        Raises:
            ValueError: It is not of the declared shape, or it holds NaN.
        """
        if self._parts is not None:
            if not isinstance(observation, Mapping) or set(observation) != set(self._parts):
                raise ValueError(
                    f"the environment shows {_brief(observation)}; its space has the keys {[*self._parts]}"
                )
            return {key: part.show(observation[key]) for key, part in self._parts.items()}
        array = np.asarray(observation)
        if array.shape != tuple(self.space.shape or ()) or array.dtype.kind not in "biuf":
            raise ValueError(
                f"the environment shows {_brief(observation)}, not an observation of its space {self.space}; "
                "gymnasium.utils.env_checker.check_env finds such faults"
            )
        if array.dtype.kind == "f" and np.isnan(array).any():
            where = tuple(int(i) for i in np.argwhere(np.isnan(array))[0])
            raise ValueError(f"the environment shows nan at coordinate {where}; observations must be numbers")
        return array.transpose(2, 0, 1) if self.transposes else array

    def hide(self, shown: Observation, like: Any) -> Any:
        """Return an observation in policy form as the environment would show it, with the dtypes of ``like``.

        Raises:
            ValueError: An integer dtype cannot hold the values, such as -1 among unsigned ones.
        """
        if self._parts is not None:
            return {key: part.hide(shown[key], like[key]) for key, part in self._parts.items()}
        array = np.asarray(shown)
        array = array.transpose(1, 2, 0) if self.transposes else array
        dtype = np.asarray(like).dtype
        with np.errstate(invalid="ignore"):
            held = array.astype(dtype)
        if dtype.kind in "biu" and not np.array_equal(held, array):
            odd = array[held != array].reshape(-1)[0]
            raise ValueError(f"the transformed observation holds {odd:g}, which {dtype} cannot hold")
        return dtype.type(held) if isinstance(self.space, spaces.Discrete) else held

    def stack(self, shown: Sequence[Observation]) -> Observation:
        """Return observations in policy form as one batch."""
        if self._parts is not None:
            return {key: part.stack([each[key] for each in shown]) for key, part in self._parts.items()}
        return np.stack(shown)

    def rows(self, batch: Observation) -> NDArray[np.float64]:
        """Return a batch as vectors, shape ``[n, size]``."""
        if self._parts is not None:
            return np.concatenate([part.rows(batch[key]) for key, part in self._parts.items()], axis=1)
        array = np.asarray(batch)
        return array.reshape(len(array), math.prod(array.shape[1:])).astype(np.float64)

    def vector(self, shown: Observation) -> NDArray[np.float64]:
        """Return one observation as a vector."""
        return np.asarray(self.rows(self.stack([shown]))[0])

    def precision(self) -> NDArray[np.float64]:
        """Return the relative rounding error of each coordinate's dtype: 0 for integers, 1.2e-7 for float32."""
        if self._parts is not None:
            return np.concatenate([part.precision() for part in self._parts.values()])
        dtype = np.dtype(self.space.dtype or np.float64)
        eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0
        return np.full(math.prod(self.space.shape or ()), eps)

    def place(self, coordinate: int) -> str:
        """Return how a coordinate of a vector is named in messages: its index, after the key of a Dict."""
        if self._parts is None:
            shape = cast(tuple[int, ...], self.shape)
            return str(tuple(int(i) for i in np.unravel_index(coordinate, shape))) if shape else "()"
        for key, part in self._parts.items():
            size = len(part.precision())
            if coordinate < size:
                return f"{key} {part.place(coordinate)}"
            coordinate -= size
        raise IndexError(coordinate)

    def nudge(self, observation: Any, random: np.random.Generator) -> Any | None:
        """Return the environment's observation with its floats moved by a last bit, or ``None`` if it has none to move.

        Whole numbers stay: a grid's coordinates are exact.
        """
        if self._parts is not None:
            nudged = {key: part.nudge(observation[key], random) for key, part in self._parts.items()}
            if all(value is None for value in nudged.values()):
                return None
            return {key: observation[key] if value is None else value for key, value in nudged.items()}
        array = np.asarray(observation)
        if array.dtype.kind != "f" or bool((array == np.trunc(array)).all()):
            return None
        towards = np.where(random.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
        return np.where(array == np.trunc(array), array, np.nextafter(array, towards)).astype(array.dtype)

    def turn(self, symmetry: MDPSymmetry, element: int, batch: Observation) -> Observation:
        """Return a batch in policy form, moved by a group element."""
        return _arrays(symmetry.observation.transform(element, _tensors(batch)))

    def turn_one(self, symmetry: MDPSymmetry, element: int, shown: Observation) -> Observation:
        """Return one observation in policy form, moved by a group element."""
        return _first(self.turn(symmetry, element, self.stack([shown])))

    def misfit(self, representation: Representation, element: int) -> str:
        """Say where an element does not map the space onto itself; empty where it does."""
        if self._parts is not None:
            by_key = cast(MappingRepresentation, representation)  # the shapes fit
            found = {key: part.misfit(by_key.part(key), element) for key, part in self._parts.items()}
            return next((f"{key}: {text}" for key, text in found.items() if text), "")
        low, high = (self._shown_bound(bound) for bound in _bounds(self.space))
        if isinstance(representation, TokenRepresentation):
            return _token_misfit(representation, element, low, high, self)
        if isinstance(representation, MatrixRepresentation):
            return _mixed_misfit(representation, low.ravel(), high.ravel())
        # Infinite bounds stay infinite; a finite stand-in keeps 0 * inf out.
        low, high = (np.nan_to_num(bound, posinf=1e300, neginf=-1e300) for bound in (low, high))
        corners = _arrays(representation.transform(element, _tensors(np.stack([low, high]))))
        corners = np.sort(corners, axis=0)
        if np.allclose(corners, np.stack([low, high])):
            return ""
        i = np.unravel_index(int(np.abs(corners - np.stack([low, high])).max(axis=0).argmax()), low.shape)
        return (
            f"coordinate {tuple(int(k) for k in i)} has bounds [{low[i]:g}, {high[i]:g}], its image "
            f"[{corners[0][i]:g}, {corners[1][i]:g}]"
        )

    def _shown_bound(self, bound: NDArray[Any]) -> NDArray[np.float64]:
        return (bound.transpose(2, 0, 1) if self.transposes else bound).astype(np.float64)


def fit_symmetry(symmetry: str | MDPSymmetry, environment: gym.Env[Any, Any]) -> tuple[MDPSymmetry, ObservationLayout]:
    """Return the symmetry, built for an environment's spaces where it is given by name, and the layout it acts on.

    The name ``"mirror"`` is that of the mirror of a MuJoCo robot, derived from its model.

    Raises:
        TypeError: Actions of a space that no symmetry moves, observations have no fixed shape, or ``symmetry`` is
            neither a name nor an ``MDPSymmetry``.
        ValueError: Unknown name, or a symmetry that does not fit the spaces.
    """
    actions = ActionLayout(environment.action_space)
    layout = ObservationLayout(environment.observation_space)
    if symmetry == MIRROR and MIRROR not in registered_symmetries():
        symmetry = mujoco_mirror(environment)
    if isinstance(symmetry, str):
        actions.check_name(symmetry)
        symmetry = build_symmetry(symmetry, layout.shape, actions.size)
        actions.check(symmetry)
        return symmetry, layout
    if not isinstance(symmetry, MDPSymmetry):
        raise TypeError(f"symmetry is a registered name or an MDPSymmetry; got {symmetry!r}")
    try:
        symmetry.check_fits(layout.shape, actions.size)
    except ValueError as error:
        if not layout.transposes:
            raise
        raise ValueError(f"{error}. Pictures are seen channels first, as SB3 shows them to policies") from error
    actions.check(symmetry)
    return symmetry, layout


def _is_picture_channels_last(space: spaces.Space[Any]) -> bool:
    """Say whether SB3 takes a space for pictures and transposes them (its ``is_image_space`` and ``_wrap_env``)."""
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 3
        and space.dtype == np.uint8
        and bool((space.low == 0).all() and (space.high == 255).all())
        and int(np.argmin(space.shape)) != 0
    )


def _bounds(space: spaces.Space[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    if isinstance(space, spaces.Box):
        return space.low, space.high
    if isinstance(space, spaces.Discrete):
        return np.array(space.start), np.array(space.start + space.n - 1)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.start), np.asarray(space.start) + np.asarray(space.nvec) - 1
    return np.zeros(space.shape or ()), np.ones(space.shape or ())


def _mixed_misfit(representation: MatrixRepresentation, low: NDArray[Any], high: NDArray[Any]) -> str:
    """Say which coordinates are mixed by matrices and have not one bound to both sides; empty for none."""
    uneven = uneven_block(representation, low, high)
    return (
        f"coordinates {uneven} are mixed, with bounds {low[uneven].tolist()} to {high[uneven].tolist()}"
        if uneven
        else ""
    )


def _token_misfit(
    representation: TokenRepresentation,
    element: int,
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    layout: ObservationLayout,
) -> str:
    table = representation.table[element].tolist()
    for i in np.ndindex(low.shape):
        least, most = low[i], high[i]
        if not 0 <= least <= most < len(table):
            return (
                f"coordinate {i} takes the values {least:g} to {most:g}, and the symmetry permutes "
                f"0 to {len(table) - 1}"
            )
        for value in range(int(least), int(most) + 1):
            if not least <= table[value] <= most:
                return f"coordinate {i}: the value {value} becomes {table[value]}, outside {least:g} to {most:g}"
    return ""


def _tensors(tree: Observation) -> Any:
    if isinstance(tree, dict):
        return {key: _tensors(value) for key, value in tree.items()}
    array = np.asarray(tree)
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)  # torch does little with wide unsigned integers
    return torch.from_numpy(np.array(array))


def _arrays(tree: Any) -> Observation:
    if isinstance(tree, dict):
        return {key: _arrays(value) for key, value in tree.items()}
    return np.asarray(tree.detach().numpy())


def _first(tree: Observation) -> Observation:
    return {key: _first(value) for key, value in tree.items()} if isinstance(tree, dict) else tree[0]


def _brief(observation: Any) -> str:
    if isinstance(observation, np.ndarray):
        return f"an array {list(observation.shape)} of {observation.dtype}"
    if isinstance(observation, Mapping):
        return f"a mapping with the keys {list(observation)}"
    text = repr(observation)
    return text if len(text) <= 60 else f"{text[:57]}..."
