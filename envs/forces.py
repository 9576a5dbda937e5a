"""Numbers and forces as the worlds of robots take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["float_array", "shortened_forces"]


def float_array(given: Any, what: str) -> NDArray[np.float64]:
    """Return an array of numbers.

    Raises:
        TypeError: No numbers.
    """
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what}; got {given!r}") from error


def shortened_forces(action: Any, n: int) -> NDArray[np.float64]:
    """Return ``n`` forces of the plane, ``[n, 2]``, none of them longer than 1.

    Raises:
        TypeError: No numbers.
        ValueError: No ``2 n`` finite numbers.
    """
    wanted = "a force is two finite numbers" if n == 1 else f"forces are {2 * n} finite numbers"
    given = float_array(action, wanted)
    if given.size != 2 * n or not np.isfinite(given).all():
        raise ValueError(f"{wanted}; got {action!r}")
    forces = given.reshape(n, 2)
    return np.asarray(forces / np.maximum(1.0, np.linalg.norm(forces, axis=1, keepdims=True)))
