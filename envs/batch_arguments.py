"""Arguments of batched environments, checked before anything is changed: counts, seeds, options and masks."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["environment_seeds", "positive_integer", "reset_mask", "reset_options"]


def positive_integer(name: str, value: Any) -> int:
    """Return a count, such as the number of environments, as an ``int``.

    Args:
        name: Name of the argument, for the message.
        value: Its value.

    Raises:
        TypeError: ``value`` is not a whole number; a float or a bool is not one.
        ValueError: It is below 1.
    """
    number = _whole_number(value)
    if number is None:
        raise TypeError(f"{name} must be a whole number, such as 8; got {value!r}")
    if number < 1:
        raise ValueError(f"{name} must be at least 1, not {number}")
    return number


def environment_seeds(count: int, seed: Any) -> list[int | None]:
    """Return one seed for each environment: ``seed, seed + 1, ...`` for a number, else the given ones.

    Args:
        count: Number of environments.
        seed: ``None`` (no environment is seeded), a whole number, or a sequence of ``count`` whole numbers or ``None``.

    Raises:
        TypeError: A seed is neither a whole number nor ``None``.
        ValueError: A negative seed, or a sequence of another length.
    """
    if seed is None:
        return [None] * count
    if (first := _whole_number(seed)) is not None:
        return [_checked_seed(first) + i for i in range(count)]
    if isinstance(seed, str | bytes | Mapping) or not isinstance(seed, Iterable):
        raise TypeError(f"seed must be a whole number, {count} of them, or None; got {seed!r}")
    seeds = [None if one is None else _checked_seed(one) for one in seed]
    if len(seeds) != count:
        raise ValueError(f"{len(seeds)} seeds do not fit {count} environments; give one for each, or a single number")
    return seeds


def reset_options(options: Any) -> dict[str, Any]:
    """Return the options of a reset as a dict of their own, empty for ``None``.

    Raises:
        TypeError: ``options`` is neither a dict nor ``None``.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(f"reset options must be a dict, such as {{'goal': (0, 0)}}, or None; got {options!r}")
    return dict(options)


def reset_mask(count: int, mask: Any) -> NDArray[np.bool_]:
    """Return which environments to reset, as booleans ``[count]``.

    Raises:
        ValueError: ``mask`` has another shape, holds anything but booleans, or chooses no environment.
    """
    chosen = np.asarray(mask)
    if chosen.shape != (count,) or chosen.dtype != np.bool_:
        raise ValueError(f"reset_mask must be booleans [{count}]; got {chosen.dtype} {list(chosen.shape)}")
    if not chosen.any():
        raise ValueError(f"reset_mask chooses no environment: at least one of its {count} entries must be True")
    return chosen


def _whole_number(value: Any) -> int | None:
    """Return an integer of Python or NumPy as an ``int``, and ``None`` for everything else, bools included."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def _checked_seed(value: Any) -> int:
    seed = _whole_number(value)
    if seed is None:
        raise TypeError(f"a seed must be a whole number or None; got {value!r}")
    if seed < 0:
        raise ValueError(f"a seed must be at least 0, not {seed}")
    return seed
