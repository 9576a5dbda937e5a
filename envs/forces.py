"""Numbers, states and forces as the worlds of robots take them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.envs.batch_arguments import reset_options

__all__ = ["float_array", "given_state", "shortened_forces"]


def float_array(given: Any, what: str) -> NDArray[np.float64]:
    """Return an array of numbers.

    Raises:
        TypeError: No numbers.
    """
    try:
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what}; got {given!r}") from error


def given_state(options: Any, shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Return the state that the options of ``reset`` name, a copy; ``None`` if they name none.

    Raises:
        TypeError: The options are no dict, or the state holds no numbers.
        ValueError: Unknown options, or a state of another shape, or one that is not finite.
    """
    given = dict(reset_options(options))
    state = given.pop("state", None)
    if given:
        raise ValueError(f"unknown reset options {sorted(map(str, given))}; known: 'state'")
    if state is None:
        return None
    wanted = f"a state is {list(shape)} finite numbers"
    read = float_array(state, wanted).copy()
    if read.shape != shape or not np.isfinite(read).all():
        shown = list(read.shape) if read.shape != shape else read.tolist()
        raise ValueError(f"{wanted}; got {shown}")
    return read


def shortened_forces(action: Any, n: int) -> NDArray[np.float64]:
    """Return ``n`` forces of the plane, ``[n, 2]``, none of them longer than 1.

    Raises:
        TypeError: No numbers.
        ValueError: No ``2 n`` finite numbers.
    """
    wanted = "a force is two finite numbers" if n == 1 else f"forces are {2 * n} finite numbers"
    given = float_array(action, wanted)
    if given.shape not in ((2 * n,), (n, 2)) or not np.isfinite(given).all():
        raise ValueError(f"{wanted}; got {action!r}")
    forces = given.reshape(n, 2)
    largest = np.abs(forces).max(axis=1, keepdims=True).clip(min=1.0)  # so that no square overflows
    length = largest * np.linalg.norm(forces / largest, axis=1, keepdims=True)
    return np.where(length > 1.0, forces / largest / np.linalg.norm(forces / largest, axis=1, keepdims=True), forces)
