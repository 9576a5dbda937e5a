"""Checks of arguments: whole numbers that are whole, real numbers that are numbers and in their range."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["check_text", "check_texts", "of_kind", "real_number", "shape_of", "whole_number", "whole_numbers"]

Kind = TypeVar("Kind")


def of_kind(given: Any, kind: type[Kind], what: str) -> Kind:
    """Return ``given``, which is of a kind.

    Raises:
        TypeError: It is of another.
    """
    if not isinstance(given, kind):
        raise TypeError(f"{what} must be a {kind.__name__}; got {_shown(given)}")
    return given


def shape_of(given: Any, least: int = 1) -> tuple[int, ...]:
    """Return the shape of a sample: whole numbers, each at least ``least``.

    Raises:
        TypeError: Not a sequence of whole numbers.
        ValueError: A side is less than ``least``.
    """
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise TypeError(f"a shape is a sequence of whole numbers, such as (3, 7, 7); got {_shown(given)}")
    return tuple(whole_number(n, "a side of the shape of a sample", least) for n in given)


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
    if number is None or isinstance(given, bool) or getattr(given, "dtype", None) == torch.bool:
        raise TypeError(f"{what} must be a whole number from {least}; got {given!r}")
    if number < least:
        raise ValueError(f"{what} must be a whole number from {least}; got {number}")
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
    if isinstance(given, (bool, str, bytes)) or getattr(given, "dtype", None) in (bool, torch.bool):
        raise TypeError(f"{what} is a number; got {given!r}")
    try:
        number = float(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{what} is a number; got {given!r}") from error
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and above < number and least <= number <= most):
        bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
        bounds += [f"at most {most:g}"] * (most < math.inf)
        raise ValueError(f"{what} is a finite number {' and '.join(bounds)}".rstrip() + f"; got {_shown(given)}")
    return number


def whole_numbers(given: Any, what: str) -> Tensor:
    """Return an array of whole numbers as int64, always a copy, on the CPU.

    Args:
        given: A tensor, an array or nested lists; floats pass where they hold whole numbers.
        what: The array's name in the message.

    Raises:
        TypeError: It holds no numbers, or truth values.
        ValueError: It holds fractions, NaN or infinities, or its rows have different lengths.
    """
    if isinstance(given, Tensor) and given.layout != torch.strided:
        raise TypeError(f"{what} is a dense array; got a tensor of the layout {given.layout}: write .to_dense()")
    try:
        # NumPy's arrays come with their own copy(), which torch needs where a stride is negative.
        values = given.detach() if isinstance(given, Tensor) else torch.as_tensor(_plain(given))
    except OverflowError as error:
        raise ValueError(f"{what} holds whole numbers of 64 bits; got {_shown(given)}") from error
    except ValueError as error:
        if "str" not in str(error):
            raise ValueError(f"{what} has rows of different lengths: {_shown(given)}") from error
        raise TypeError(f"{what} holds whole numbers; got {_shown(given)}") from error
    except (TypeError, RuntimeError) as error:
        raise TypeError(f"{what} holds whole numbers; got {_shown(given)}") from error
    if values.numel() and (values.dtype == torch.bool or values.is_complex()):
        raise TypeError(f"{what} holds whole numbers; got {_shown(given)}")
    if values.is_floating_point():
        odd = values[~(values.isfinite() & (values == values.trunc()))]
        if odd.numel():
            raise ValueError(f"{what} holds whole numbers; got {odd.flatten()[0].item():g} among them")
    return torch.empty(values.shape, dtype=torch.long).copy_(values)


def _plain(given: Any) -> Any:
    if isinstance(given, (list, tuple, range)):
        return [entry.tolist() if hasattr(entry, "tolist") else _plain(entry) for entry in given]
    return given.copy() if hasattr(given, "copy") else given


def _shown(given: Any) -> str:
    text = repr(given)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_texts(texts: Any, what: str) -> None:
    """Check that a list of texts is no single text, whose letters would be taken for texts.

    Raises:
        TypeError: A text in place of the list, or something in the list that is no text.
    """
    if isinstance(texts, str):
        raise TypeError(f"{what} are a list of texts; got the text {texts[:40]!r}: put it into a list")
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{what} are texts; got {text!r} among them")


def check_text(what: str, given: Any) -> None:
    """Check that something is a text.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(given, str):
        raise TypeError(f"{what} is a text; got {given!r}")
