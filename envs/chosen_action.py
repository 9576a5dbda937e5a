"""An action as a number, or the finding that it is none: 0.25, True, NaN and "3" choose nothing."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

__all__ = ["chosen_action"]


def chosen_action(action: Any, n: int, start: int = 0) -> int | None:
    """Return the number of an action, or ``None`` where it is none of ``start .. start + n - 1``.

    Args:
        action: An ``int``, or an integer of NumPy's or torch's.
        n: Number of actions.
        start: The first one.
    """
    try:
        number = operator.index(action)
    except TypeError:
        return None
    inside = start <= number < start + n and not isinstance(action, (bool, np.bool_))
    return number if inside and "bool" not in str(getattr(action, "dtype", "")) else None
