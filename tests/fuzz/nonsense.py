"""How values are malformed: for each kind of argument a list of values that mean nothing, or perhaps something."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.oracle import Expect, Nonsense

__all__ = [
    "Argument",
    "batch",
    "count",
    "flag",
    "instance",
    "name",
    "one_of",
    "real",
    "settings",
    "shape",
    "strict",
    "table",
    "vector",
]

Draw = Callable[[Random], Nonsense]

_REFUSED, _KIND, _EITHER, _OBJECT = Expect.REFUSED, Expect.WRONG_KIND, Expect.EITHER, Expect.WRONG_OBJECT


@dataclass(frozen=True)
class Argument:
    """One argument of a call: how it is malformed, and what else a message may call it."""

    draw: Draw
    words: tuple[str, ...] = ()


def one_of(given: Sequence[tuple[Any, Expect, str]], *words: str) -> Argument:
    """Return an argument that becomes one of some values."""

    def draw(random: Random) -> Nonsense:
        value, expect, label = random.choice(given)
        return Nonsense(value() if callable(value) and not isinstance(value, type) else value, expect, label)

    return Argument(draw, words)


def count(
    least: int = 1, *words: str, most: int | None = None, nullable: bool = False, lists: bool = False
) -> Argument:
    """Return a whole number from ``least`` on, malformed.

    Args:
        least: The least one allowed.
        *words: See ``Argument``.
        most: The largest one allowed, if there is one.
        nullable: Whether ``None`` is allowed.
        lists: Whether several numbers may have a meaning, too.
    """
    given: list[tuple[Any, Expect, str]] = [
        *((value, _REFUSED, "not finite") for value in (math.nan, math.inf, -math.inf, np.float64("nan"))),
        *((value, _REFUSED, "fractional") for value in (least + 0.5, np.float32(least + 0.25))),
        *((value, _REFUSED, "too small") for value in (least - 1, least - 7, -(2**63), np.int64(least - 1))),
        (-(10**30), _REFUSED, "too small"),
        (float(least + 1), _EITHER, "whole, as a float"),
        (np.int64(least + 1), _EITHER, "NumPy's whole number"),
        (True, _KIND, "bool"),
        *((value, _KIND, "text") for value in ("3", "", "three", b"3")),
        *((value, _EITHER if lists else _KIND, "container") for value in ([3], [], (1, 2))),
        ({}, _KIND, "container"),
        ({3}, _KIND, "container"),
        (3 + 0j, _KIND, "complex"),
        (lambda: torch.tensor(2.5), _KIND, "tensor"),
        (object, _KIND, "class"),
    ]
    if not nullable:
        given.append((None, _KIND, "None"))
    if most is not None:
        given += [(most + 1, _REFUSED, "too large"), (10**30, _REFUSED, "too large"), (1e300, _REFUSED, "too large")]
    return one_of(given, *words)


def real(
    *words: str, low: float | None = None, high: float | None = None, open_low: bool = False, nullable: bool = False
) -> Argument:
    """Return a real number in a range, malformed."""
    given: list[tuple[Any, Expect, str]] = [
        *((value, _REFUSED, "not a number") for value in (math.nan, np.float32("nan"), np.float64("nan"))),
        *((value, _REFUSED, "infinite") for value in (math.inf, -math.inf)),
        (True, _KIND, "bool"),
        *((value, _KIND, "text") for value in ("0.5", "", "much", b"1")),
        *((value, _KIND, "container") for value in ([0.5], {}, (), {0.5: 1})),
        (0.5 + 1j, _KIND, "complex"),
        (object, _KIND, "class"),
    ]
    if not nullable:
        given.append((None, _KIND, "None"))
    if low is not None:
        given += [(value, _REFUSED, "too small") for value in (low - 1e-9 - abs(low) * 1e-9, low - 1, -1e300)]
        if open_low:
            given.append((low, _REFUSED, "at the open end"))
    if high is not None:
        given += [(value, _REFUSED, "too large") for value in (high + 1e-6, high + 1, 1e300, 10**40)]
    return one_of(given, *words)


def name(
    known: Iterable[str], *words: str, nullable: bool = False, others: bool = False, numbers: bool = True
) -> Argument:
    """Return a name out of a list, malformed: near misses above all.

    Args:
        known: The names.
        *words: See ``Argument``.
        nullable: Whether ``None`` is allowed.
        others: Whether another name may have a meaning.
        numbers: Whether whole numbers mean nothing.
    """
    names = list(known)

    def draw(random: Random) -> Nonsense:
        base = random.choice(names)
        at = random.randrange(len(base))
        misses = [
            base[:at] + base[at + 1 :],
            base[:at] + base[at] * 2 + base[at + 1 :],
            *(base.upper(), base.capitalize(), f" {base}", f"{base} ", f"{base}\n", f"{base}\0", f"{base}-v9"),
            *(base.replace("_", "-"), base.replace("-", "_"), base[::-1], f"{base},{base}", f"./{base}"),
        ]
        texts = ["", " ", "None", "nan", "0", "../..", "λ", "\u202e", "x" * 5000, "%s", "{}", "a\nb", "'", *misses]
        kinds: list[Any] = [2.5, math.nan, True, [], [base], {}, base.encode(), (base,), {base: 1}]
        kinds += [*([] if nullable else [None]), *((0, 1) if numbers else ())]
        if random.random() < 0.7:
            text = random.choice([text for text in texts if text not in names])
            perhaps = others or text.strip() in names  # blanks around a name may be passed over
            return Nonsense(text, _EITHER if perhaps else _REFUSED, "unknown name")
        return Nonsense(random.choice(kinds), _KIND, "no text")

    return Argument(draw, words)


def flag(*words: str) -> Argument:
    """Return a truth value, malformed: what is neither true nor false by itself."""
    kinds: list[Any] = [0, 1, 2, None, "False", "no", math.nan, [], ""]
    return one_of([(value, _EITHER, "no truth value") for value in kinds], *words)


def table(valid: Sequence[Sequence[int]], *words: str, nullable: bool = False, signs: bool = False) -> Argument:
    """Return a table of whole numbers, one row for each group element, malformed.

    Args:
        valid: The table as it should be.
        *words: See ``Argument``.
        nullable: Whether ``None`` is allowed.
        signs: Whether it holds signs, which other entries may be, too.
    """
    wrong = _EITHER if signs else _REFUSED

    def draw(random: Random) -> Nonsense:
        array = np.array(valid)
        rows, columns = array.shape
        row, column = random.randrange(rows), random.randrange(columns)

        def with_entry(value: Any, dtype: Any = np.int64) -> Any:
            changed = array.astype(dtype)
            changed[row, column] = value
            return changed

        near = array.tolist()
        near[row] = near[row][:-1]
        other = (array[row, column] + 1) % max(2, array.max() + 1)
        made: list[tuple[Any, Expect, str]] = [
            (with_entry(array[row, column] + 0.5, float), _REFUSED, "fractional entry"),
            (with_entry(math.nan, float), _REFUSED, "NaN entry"),
            (with_entry(math.inf, float), _REFUSED, "infinite entry"),
            (with_entry(-1), wrong, "negative entry"),
            (with_entry(10**6), _REFUSED, "entry out of range"),
            (with_entry(2**62), _REFUSED, "huge entry"),
            (with_entry(other), wrong, "entry that is there twice"),
            (array.astype(object) * 2**70 + array, _REFUSED, "beyond 64 bits"),
            (near, _REFUSED, "ragged rows"),
            (array[:-1], _REFUSED, "a row too few"),
            (np.concatenate([array, array]), _REFUSED, "rows twice"),
            (array[:, :-1], _REFUSED, "a column too few"),
            (array[None], _REFUSED, "an axis too many"),
            (array[row], _REFUSED, "an axis too few"),
            (np.zeros((0, columns)), _REFUSED, "no rows"),
            ([], _REFUSED, "empty"),
            ([[]] * rows, _EITHER, "no columns"),
            (np.full_like(array, int(array[row, column])), wrong, "all the same"),
            (array.astype(str), _KIND, "text entries"),
            (array.astype(bool), _KIND, "bool entries"),
            (array.astype(complex), _KIND, "complex entries"),
            ([[None] * columns] * rows, _KIND, "None entries"),
            (array.astype(object), _KIND, "objects"),
            ("0123", _KIND, "text"),
            (3, _EITHER, "a number"),
            (object, _KIND, "class"),
            ({"a": 1}, _KIND, "dict"),
            (array.astype(float), _EITHER, "whole, as floats"),
            (torch.from_numpy(array.copy()).to(torch.int8), _EITHER, "bytes"),
            (array[:, ::-1], _EITHER, "columns reversed"),
            (array.T.copy(), _EITHER, "transposed"),
            (array[random.sample(range(rows), rows)], _EITHER, "rows in another order"),
            (torch.from_numpy(array.copy()).to_sparse(), _KIND, "sparse"),
            (torch.from_numpy(array.copy()).float().requires_grad_(), _EITHER, "requires a gradient"),
        ]
        if not nullable:
            made.append((None, _KIND, "None"))
        return Nonsense(*random.choice(made))

    return Argument(draw, words)


def shape(valid: Sequence[int], *words: str, least: int = 0) -> Argument:
    """Return the shape of a sample, malformed; ``least`` is the least side allowed."""
    sides = list(valid)

    def draw(random: Random) -> Nonsense:
        at = random.randrange(len(sides)) if sides else 0

        def with_side(value: Any) -> list[Any]:
            return [*sides[:at], value, *sides[at + 1 :]]

        made: list[tuple[Any, Expect, str]] = [
            *(
                (with_side(value), _REFUSED, "a side that is none")
                for value in (least - 1, -(2**40), 2.5, math.nan, math.inf)
            ),
            *((with_side(value), _KIND, "a side of another kind") for value in ("3", None, True, [3], b"3")),
            (with_side(0), _EITHER, "a side of 0"),
            ((), _EITHER, "no sides"),
            ([*sides, 7], _EITHER, "a side too many"),
            (sides[:-1], _EITHER, "a side too few"),
            ("".join(map(str, sides)), _KIND, "text"),
            (None, _KIND, "None"),
            (7, _KIND, "a number"),
            ({"a": sides}, _KIND, "dict"),
            (np.array(sides), _EITHER, "an array"),
            (torch.tensor(sides), _EITHER, "a tensor"),
        ]
        return Nonsense(*random.choice(made))

    return Argument(draw, words)


def vector(valid: Sequence[Any], *words: str, numbers: bool = True, nullable: bool = False) -> Argument:
    """Return a list of numbers or names, malformed."""

    def draw(random: Random) -> Nonsense:
        entries = list(valid)
        at = random.randrange(len(entries))
        made: list[tuple[Any, Expect, str]] = [
            (entries[:-1], _EITHER, "an entry too few"),
            ([*entries, entries[-1]], _EITHER, "an entry twice"),
            ([], _EITHER, "empty"),
            ([entries], _KIND, "a list too many"),
            ("".join(map(str, entries)), _KIND, "text"),
            (None, _EITHER if nullable else _KIND, "None"),
            (5, _KIND, "a number"),
            ([*entries[:at], None, *entries[at + 1 :]], _KIND, "None inside"),
            ([*entries[:at], {}, *entries[at + 1 :]], _KIND, "dict inside"),
        ]
        if numbers:
            odd = (math.nan, math.inf, -3, entries[at] + 0.5, -(10**9))
            made += [([*entries[:at], value, *entries[at + 1 :]], _REFUSED, "a wrong number inside") for value in odd]
            made.append(([*map(str, entries)], _KIND, "texts inside"))
        return Nonsense(*random.choice(made))

    return Argument(draw, words)


def strict(argument: Argument) -> Argument:
    """Return an argument that is never malformed so that it may have a meaning; for calls that take their time."""

    def draw(random: Random) -> Nonsense:
        while (drawn := argument.draw(random)).expect is _EITHER:
            pass
        return drawn

    return Argument(draw, argument.words)


def batch(
    valid: Callable[[], torch.Tensor], *words: str, arrays: bool = False, nullable: bool = False, free: bool = False
) -> Argument:
    """Return a batch of samples, malformed. Values that are not finite may give what is not finite.

    Args:
        valid: Makes the batch as it should be.
        *words: See ``Argument``.
        arrays: Whether arrays and lists are taken.
        nullable: Whether ``None`` is allowed.
        free: Whether samples of another shape may have a meaning.
    """
    wrong = _EITHER if free else _REFUSED

    def draw(random: Random) -> Nonsense:
        x = valid()
        entries = x.clone().flatten()
        if len(entries) and x.is_floating_point():
            entries[random.randrange(len(entries))] = random.choice([math.nan, math.inf, -math.inf])
        made: list[tuple[Any, Expect, str]] = [
            (entries.view(x.shape), _EITHER, "a value that is not finite"),
            (x[:0], _EITHER, "no samples"),
            (x[0], wrong, "no batch axis"),
            (x[None], wrong, "an axis too many"),
            (x[..., :-1], wrong, "a coordinate too few"),
            (torch.cat([x, x], dim=-1), wrong, "coordinates twice"),
            (torch.tensor(1.0), _REFUSED, "no axes"),
            (x.numpy(), _EITHER, "an array") if arrays else (x.numpy(), _KIND, "an array"),
            (x.tolist(), _EITHER, "lists") if arrays else (x.tolist(), _KIND, "lists"),
            ({"a": x}, _EITHER if free else _KIND, "dict"),
            ({}, _KIND, "empty dict"),
            (None, _EITHER if nullable else _KIND, "None"),
            ("x", _KIND, "text"),
            (3.0, _KIND, "a number"),
            (object, _KIND, "class"),
            (1e30 * x if x.is_floating_point() else x, _EITHER, "huge values"),
        ]
        return Nonsense(*random.choice(made))

    return Argument(draw, words)


def settings(valid: Sequence[str], *words: str) -> Argument:
    """Return a dict of settings, malformed: misspelt keys above all."""

    def draw(random: Random) -> Nonsense:
        known = random.choice(list(valid)) if valid else "setting"
        misspelt = random.choice([known[:-1], f"{known}s", known.upper(), f"_{known}", "", f"{known} "])
        made: list[tuple[Any, Expect, str]] = [
            *(({misspelt: value}, _REFUSED, "a misspelt setting") for value in (1, "a", None)),
            *((value, _KIND, "no dict") for value in ([], "x", 3, [("a", 1)], object)),
            ({3: 1}, _KIND, "a number for a key"),
        ]
        value, expect, label = random.choice(made)
        return Nonsense(value, _EITHER if value == [] else expect, label)

    return Argument(draw, words)


def instance(*words: str, nullable: bool = False) -> Argument:
    """Return an object of a class, malformed: something of another class."""
    kinds: list[Any] = [3, "x", [], {}, object, math.nan, b"x", Path("x"), True]
    return one_of([(value, _OBJECT, "another class") for value in (kinds if nullable else [*kinds, None])], *words)
