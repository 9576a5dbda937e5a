"""Arguments of batched environments, checked before anything is changed: seeds, options and masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import whole_number

__all__ = ["environment_seeds", "reset_mask", "reset_options"]


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
    several = isinstance(seed, Iterable) and not isinstance(seed, str | bytes | Mapping)
    if not several or getattr(seed, "ndim", 1) == 0:
        first = whole_number(seed, "a seed", 0)
        return [first + i for i in range(count)]
    seeds = [None if one is None else whole_number(one, "a seed", 0) for one in seed]
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
