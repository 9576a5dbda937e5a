"""Checks of arguments: whole numbers that are whole, real numbers that are numbers and in their range."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["real_number", "whole_number", "whole_numbers"]


def whole_number(given: Any, what: str, least: int) -> int:
    """Return a whole number that is at least ``least``.

    Args:
        given: An ``int``, or an integer of NumPy's or torch's; no float, no truth value.
        what: The argument's name in the message.
        least: The smallest value allowed.

    Raises:
        TypeError: Not a whole number.
        ValueError: It is less than ``least``.
    """
    try:
        number = operator.index(given)
    except TypeError:
        number = None
    if number is None or isinstance(given, (bool, np.bool_)):
        raise TypeError(f"{what} is a whole number from {least}; got {given!r}")
    if number < least:
        raise ValueError(f"{what} is a whole number from {least}; got {number}")
    return number


def real_number(
    given: Any, what: str, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> float:
    """Return a finite number in its range: ``above < number``, ``least <= number <= most``.

    Args:
        given: A number; no truth value, no text.
        what: The argument's name in the message.
        above: A bound that the number exceeds.
        least: The smallest value allowed.
        most: The largest value allowed.

    Raises:
        TypeError: Not a number.
        ValueError: NaN, infinite, or outside the range.
    """
    if isinstance(given, (bool, np.bool_, str, bytes)):
        raise TypeError(f"{what} is a number; got {given!r}")
    try:
        number = float(given)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{what} is a number; got {given!r}") from error
    if not (math.isfinite(number) and above < number and least <= number <= most):
        bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
        bounds += [f"at most {most:g}"] * (most < math.inf)
        raise ValueError(f"{what} is a finite number {' and '.join(bounds)}".rstrip() + f"; got {given!r}")
    return number


def whole_numbers(given: Any, what: str) -> Tensor:
    """Return an array of whole numbers as int64, always a copy, on the CPU.

    Args:
        given: A tensor, an array or nested lists; floats pass where they hold whole numbers.
        what: What the array is called in the message.

    Raises:
        TypeError: It holds no numbers, or truth values.
        ValueError: It holds fractions, NaN or infinities, or its rows have different lengths.
    """
    values: Any = given.detach().cpu().numpy() if isinstance(given, Tensor) else given
    try:
        array = np.array(values)
    except ValueError as error:
        raise ValueError(f"{what} has rows of different lengths; every row has one entry per point") from error
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{what} holds whole numbers; got {_shown(given)}")
    if array.dtype.kind == "f" and not bool((np.isfinite(array) & (array == np.trunc(array))).all()):
        odd = array[~(np.isfinite(array) & (array == np.trunc(array)))][0]
        raise ValueError(f"{what} holds whole numbers; got {odd:g} among them")
    return torch.from_numpy(np.ascontiguousarray(array.astype(np.int64)))


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."
