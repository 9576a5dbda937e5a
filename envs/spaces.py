"""From Gymnasium spaces to symmetries: sizes, a symmetry found by name, and whether it maps a space onto itself."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.actions import ActionLayout
from equirl.envs.making import SYMMETRY_VIEWS
from equirl.mappings import MappingRepresentation
from equirl.representations import MonomialRepresentation, Representation
from equirl.symmetry import MDPSymmetry, ObservationShape, build_symmetry
from equirl.tokens import TokenRepresentation

__all__ = ["bounds_violations", "observation_shape", "resolve_symmetry", "warn_of_bounds"]


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


def resolve_symmetry(
    symmetry: str | MDPSymmetry, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> MDPSymmetry:
    """Return the symmetry, built for the spaces where it is given by name, and checked against them.

    Args:
        symmetry: A registered name, such as ``"grid-d4"``, or an ``MDPSymmetry``.
        observation_space: As SB3 sees it: images channels first.
        action_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.

    Raises:
        TypeError: Actions of another space, or ``symmetry`` is neither a name nor an ``MDPSymmetry``.
        ValueError: Unknown name, sizes that do not fit the spaces, numbers of things that change their sign or meet
            another range, actions out of their space, or a MiniGrid symmetry on observations that are not one of
            equirl's views.
    """
    actions = ActionLayout(action_space)
    if isinstance(action_space, (spaces.Discrete, spaces.MultiDiscrete)):
        _check_start("action", action_space)
    shape = observation_shape(observation_space)
    if isinstance(symmetry, str):
        actions.check_name(symmetry)
        symmetry = build_symmetry(symmetry, shape, actions.size)
    elif not isinstance(symmetry, MDPSymmetry):
        raise TypeError(f"symmetry must be a registered name or an MDPSymmetry; got {symmetry!r}")
    else:
        symmetry.check_fits(shape, actions.size)
    actions.check(symmetry)
    for key, representation, space in _entries(symmetry.observation, observation_space):
        _check_categories(symmetry.name, key, representation, space)
    if symmetry.name in SYMMETRY_VIEWS:
        _check_one_hot(symmetry.name, observation_space)
    return symmetry


def bounds_violations(symmetry: MDPSymmetry, space: spaces.Space[Any]) -> Iterator[str]:
    """Yield one sentence for each ``Box`` of observations whose bounds a group element does not map to bounds.

    Args:
        symmetry: A symmetry that fits the space.
        space: The space of observations.
    """
    for key, representation, part in _entries(symmetry.observation, space):
        if not isinstance(part, spaces.Box) or not isinstance(representation, MonomialRepresentation):
            continue
        low, high = (_finite(bound) for bound in (part.low, part.high))
        index, sign = representation.index.cpu().numpy(), representation.sign.cpu().numpy().astype(np.float64)
        ends = np.stack([sign * low[index], sign * high[index]]) + 0.0  # no -0 in the message
        off = ~(np.isclose(ends.min(axis=0), low) & np.isclose(ends.max(axis=0), high))
        if off.any():
            g, i = (int(k) for k in np.argwhere(off)[0])
            place = tuple(int(k) for k in np.unravel_index(i, part.shape))
            where = f"coordinate {place} of {key!r}" if key else f"coordinate {place}"
            yield (
                f"element {representation.group.element_names[g]} does not map the bounds of observations to bounds: "
                f"{where} is in [{low[i]:g}, {high[i]:g}], its image in [{ends[:, g, i].min():g}, "
                f"{ends[:, g, i].max():g}]"
            )


def warn_of_bounds(symmetry: MDPSymmetry, space: spaces.Space[Any], stacklevel: int = 2) -> None:
    """Warn where a group element maps observations out of their space, where a network has never been.

    Args:
        symmetry: A symmetry that fits the space.
        space: The space of observations.
        stacklevel: As for ``warnings.warn``.
    """
    for violation in bounds_violations(symmetry, space):
        warnings.warn(
            f"symmetry {symmetry.name!r}: {violation}. A symmetry of the world maps its observations onto themselves: "
            "centre the coordinates, correct the symmetry, or correct the bounds of the space",
            stacklevel=stacklevel + 1,
        )


def _entries(
    representation: Representation, space: spaces.Space[Any], key: str = ""
) -> Iterator[tuple[str, Representation, spaces.Space[Any]]]:
    """Yield the representation on each entry of a (nested) ``Dict`` with the entry's space."""
    if isinstance(representation, MappingRepresentation) and isinstance(space, spaces.Dict):
        for name in representation.keys:
            yield from _entries(representation.part(name), space[name], f"{key}.{name}" if key else name)
    else:
        yield key, representation, space


def _check_categories(name: str, key: str, representation: Representation, space: spaces.Space[Any]) -> None:
    """Raise where numbers of one of several things change their sign, or meet those of another number of things."""
    if isinstance(space, spaces.Box):
        return
    where = f"symmetry {name!r}" + (f", entry {key!r}" if key else "")
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        _check_start("observation", space)
    sizes = _sizes(space)
    if isinstance(representation, TokenRepresentation):
        values = representation.table.shape[1]
        if bool((sizes != values).any()):
            raise ValueError(
                f"{where} permutes {values} values, but {space} has {sorted({int(n) for n in sizes})}; build its table "
                "for that number of values"
            )
    elif isinstance(representation, MonomialRepresentation):
        if bool((representation.sign != 1).any()):
            raise ValueError(
                f"{where} changes the sign of coordinates of {space}, whose values number things and have no sign; "
                "permute the values instead: TokenRepresentation"
            )
        exchanged = sizes[representation.index.cpu().numpy()] != sizes
        if exchanged.any():
            g, i = (int(k) for k in np.argwhere(exchanged)[0])
            source = int(representation.index[g, i])
            raise ValueError(
                f"{where}: element {representation.group.element_names[g]} puts coordinate {source}, one of "
                f"{int(sizes[source])} values, in the place of coordinate {i}, one of {int(sizes[i])}; only "
                "coordinates with as many values change places"
            )


def _sizes(space: spaces.Space[Any]) -> NDArray[np.int64]:
    """Return how many values each coordinate has, ``[n]``."""
    if isinstance(space, spaces.Discrete):
        return np.array([space.n], dtype=np.int64)
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray(space.nvec, dtype=np.int64).ravel()
    return np.full(int(np.prod(space.shape or ())), 2, dtype=np.int64)


def _check_start(what: str, space: spaces.Discrete | spaces.MultiDiscrete) -> None:
    if np.any(np.asarray(space.start) != 0):
        raise ValueError(
            f"the {what}s of {space} are numbered from {np.asarray(space.start).tolist()}; Stable-Baselines3 and "
            "equirl number from 0. Wrap the environment to shift them"
        )


def _check_one_hot(name: str, space: spaces.Space[Any]) -> None:
    """Raise unless the observations can be one of our views of MiniGrid: planes of 0 and 1."""
    view = SYMMETRY_VIEWS[name].__name__
    if not isinstance(space, spaces.Box) or float(np.max(space.high)) > 1 or float(np.min(space.low)) < 0:
        raise ValueError(
            f"symmetry {name!r} acts on the one-hot planes [C, H, W] of equirl.envs.{view}; the observations here are "
            f"{space}. MiniGrid's own image numbers its axes the other way round, and its values are codes: wrap the "
            f"environment as {view}(gymnasium.make('MiniGrid-...')), instead of ImgObsWrapper"
        )


def _finite(bound: NDArray[Any]) -> NDArray[np.float64]:
    # Infinite bounds stay infinite; a finite stand-in keeps 0 * inf out.
    numbers: NDArray[np.float64] = np.nan_to_num(bound.astype(np.float64), posinf=1e300, neginf=-1e300).ravel()
    return numbers
