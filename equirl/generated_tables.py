"""Build a group from what its generators move: the tables of all elements, and the Cayley table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equirl.arguments import of_kind
from equirl.products import LARGEST_ORDER
from equirl.representations import MonomialRepresentation
from equirl.tokens import TokenRepresentation

__all__ = ["GeneratedTables", "Step", "close", "element_tables", "step_of"]


class Step(NamedTuple):
    """What one element does to one array: ``(rho(g) x)[to[i]] = signs[i] x[i]``; ``signs`` is ``None`` for values."""

    to: tuple[int, ...]
    signs: tuple[int, ...] | None


def step_of(representation: MonomialRepresentation | TokenRepresentation, g: int) -> Step:
    """Return what element ``g`` does to one array, as a permutation with signs, or as the new value of each value."""
    if isinstance(representation, TokenRepresentation):
        return Step(tuple(representation.table[g].tolist()), None)
    to = representation.index[g].cpu().argsort()
    return Step(tuple(to.tolist()), tuple(representation.sign[g].cpu().long()[to].tolist()))


Move = tuple[Step, ...]
"""What one element does to all arrays."""


class GeneratedTables(NamedTuple):
    """Elements of a group and how each moves each array.

    Attributes:
        names: Names of the elements.
        cayley: ``cayley[g, h]`` is the number of ``gh``, ``[|G|, |G|]``.
        to: For each array, where each element carries each coordinate, ``[|G|, n]``.
        signs: For each array, the sign that a coordinate takes on its way, ``[|G|, n]``.
    """

    names: list[str]
    cayley: Tensor
    to: list[Tensor]
    signs: list[Tensor]


def close(generators: Mapping[str, Move], sizes: Sequence[int]) -> GeneratedTables:
    """Return the group that generators generate; its elements are named by products of generators, ``e`` first.

    Args:
        generators: Name to move.
        sizes: Coordinates, or values, of each array.

    Raises:
        ValueError: More than 2,048 elements.
    """
    moves: dict[Move, list[str]] = {_identity(generators, sizes): []}
    frontier = list(moves)
    while frontier:
        found = []
        for move in frontier:
            for label, generator in generators.items():
                product = compose(generator, move)
                if product not in moves:
                    moves[product] = [label, *moves[move]]
                    found.append(product)
        if len(moves) > LARGEST_ORDER:
            raise ValueError(f"the generators {', '.join(generators)} generate more than {LARGEST_ORDER} elements")
        frontier = found
    between = "" if all(len(label) == 1 for label in generators) else "*"
    names = [between.join(word) or "e" for word in moves.values()]
    return _tables(names, list(moves), list(moves.values()), generators)


def element_tables(generators: Mapping[str, Move], elements: Any, sizes: Sequence[int]) -> GeneratedTables:
    """Return a group whose elements are given as products of generators.

    Args:
        generators: Name to move.
        elements: Name to the generators whose product the element is; the last one acts first.
        sizes: Coordinates, or values, of each array.

    Raises:
        ValueError: An unknown generator, elements that move everything alike, or that are no group.
    """
    moves, words = [], []
    for name, word in of_kind(elements, dict, "elements").items():
        move = _identity(generators, sizes)
        for label in reversed(of_kind(word, list, f"elements.{name}")):
            if label not in generators:
                raise ValueError(f"elements.{name} names the generator {label!r}; known: {', '.join(generators)}")
            move = compose(generators[label], move)
        moves.append(move)
        words.append(list(word))
    if len(moves) > LARGEST_ORDER:
        raise ValueError(f"there are {len(moves)} elements; at most {LARGEST_ORDER} can be worked with")
    return _tables(list(elements), moves, words, generators)


def compose(g: Move, h: Move) -> Move:
    """Return what ``gh`` does: first ``h``, then ``g``."""
    return tuple(
        Step(
            tuple(after.to[i] for i in before.to),
            None
            if before.signs is None or after.signs is None
            else tuple(sign * after.signs[i] for sign, i in zip(before.signs, before.to, strict=True)),
        )
        for after, before in zip(g, h, strict=True)
    )


def _tables(
    names: list[str], moves: list[Move], words: list[list[str]], generators: Mapping[str, Move]
) -> GeneratedTables:
    number: dict[Move, int] = {}
    for name, move in zip(names, moves, strict=True):
        if move in number:
            raise ValueError(f"the elements {names[number[move]]} and {name} move everything alike")
        number[move] = len(number)
    # Left multiplication by a generator, for all elements; by another element, through its word.
    by_generator = {}
    for label, generator in generators.items():
        products = [number.get(compose(generator, move)) for move in moves]
        if None in products:
            raise ValueError(
                f"{label} times {names[products.index(None)]} is none of the elements; list them all, or leave "
                "[elements] out"
            )
        by_generator[label] = torch.tensor(products)
    rows = []
    for word in words:
        row = torch.arange(len(moves))
        for label in reversed(word):
            row = by_generator[label][row]
        rows.append(row)
    arrays = list(zip(*moves, strict=True))
    to = [torch.tensor([step.to for step in steps]) for steps in arrays]
    signs = [torch.tensor([step.signs or [1] * len(step.to) for step in steps]) for steps in arrays]
    return GeneratedTables(names, torch.stack(rows), to, signs)


def _identity(generators: Mapping[str, Move], sizes: Sequence[int]) -> Move:
    for move in generators.values():
        return tuple(
            Step(tuple(range(n)), None if step.signs is None else (1,) * n) for step, n in zip(move, sizes, strict=True)
        )
    return tuple(Step(tuple(range(n)), (1,) * n) for n in sizes)
