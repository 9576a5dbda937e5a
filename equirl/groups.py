"""Finite groups: elements, Cayley table, inverses, and the usual ways to build one.

An element is an index ``0 .. order - 1``; ``cayley[g, h]`` is the product ``gh``, "first ``h``, then ``g``", so that a
representation is a left action: ``rho(g) rho(h) = rho(gh)``. Every group is checked against the axioms when it is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from equirl.arguments import of_kind, whole_number, whole_numbers

__all__ = [
    "FiniteGroup",
    "cyclic_group",
    "dihedral_group",
    "direct_product",
    "group_from_generators",
    "symmetric_group",
]

_LARGEST_ORDER = 1024  # S6 has 720; a Cayley table holds order^2 entries


class FiniteGroup:
    """A finite group, given by its Cayley table and verified on construction.

    A group does not change: its tables are copies of what was given, and a copy of a group is the group itself.

    Args:
        name: What the group is called in messages and checkpoints, such as ``"C4"``.
        element_names: One distinct name per element, in the order of the table.
        cayley: Integers, shape ``[|G|, |G|]``: ``cayley[g, h]`` is the index of ``gh``.
        generators: Names of elements that generate the group; found greedily when not given.
        natural_action: How the group permutes points where it is defined by doing so, integers, shape
            ``[|G|, n]``: element ``g`` carries point ``i`` to ``natural_action[g, i]``.

    Raises:
        TypeError: ``element_names`` or ``generators`` is one string instead of a list of names, or a table holds no
            numbers.
        ValueError: The table breaks a group axiom (closure, identity, inverses, associativity) or holds fractions,
            names repeat, the generators do not generate, or the natural action is not one. The message names the
            elements.
    """

    def __init__(
        self,
        name: str,
        element_names: Sequence[str],
        cayley: Tensor | Sequence[Sequence[int]],
        *,
        generators: Sequence[str] | None = None,
        natural_action: Tensor | Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.name = name
        self.element_names = tuple(
            of_kind(e, str, "the name of an element") for e in _names(element_names, "element_names")
        )
        self._position = {element: i for i, element in enumerate(self.element_names)}
        self.cayley = whole_numbers(cayley, f"{name}: the Cayley table")
        self._check_table()
        self.identity = self._find_identity()
        self.inverses = self._find_inverses()
        self.generators = (
            self._find_generators()
            if generators is None
            else tuple(self.index(generator) for generator in _names(generators, "generators"))
        )
        if len(self.generated_by(self.generators)) != self.order:
            named = ", ".join(self.element_names[g] for g in self.generators)
            raise ValueError(f"the elements {named} do not generate {self.name}; they generate a smaller subgroup")
        self._check_associative()
        self.natural_action = (
            None if natural_action is None else whole_numbers(natural_action, f"{name}: the natural action")
        )
        if self.natural_action is not None:
            self._check_natural_action(self.natural_action)

    @property
    def order(self) -> int:
        """The number of elements ``|G|``."""
        return len(self.element_names)

    def index(self, element: int | str) -> int:
        """Return the index of an element given by name or index.

        Raises:
            TypeError: Neither a name nor a whole number.
            ValueError: No such element; the message lists the names.
        """
        if isinstance(element, str):
            if element in self._position:
                return self._position[element]
        elif (number := whole_number(element, f"an element of {self.name}", 0)) < self.order:
            return number
        raise ValueError(f"{self.name} has no element {element!r}; its elements: {', '.join(self.element_names)}")

    def multiply(self, g: int | str, h: int | str) -> int:
        """Return the index of ``gh``: first ``h``, then ``g``."""
        return int(self.cayley[self.index(g), self.index(h)])

    def inverse(self, g: int | str) -> int:
        """Return the index of ``g^-1``."""
        return self._inverse_of[self.index(g)]

    @cached_property
    def _inverse_of(self) -> list[int]:
        numbers: list[int] = self.inverses.tolist()
        return numbers

    def element_order(self, g: int | str) -> int:
        """Return the smallest ``k > 0`` with ``g^k = e``."""
        start = self.index(g)
        power, k = start, 1
        while power != self.identity:
            power, k = int(self.cayley[power, start]), k + 1
        return k

    def generated_by(self, elements: Iterable[int | str]) -> tuple[int, ...]:
        """Return the subgroup generated by ``elements`` (names or indices), as sorted indices.

        Raises:
            TypeError: One string instead of a list of names.
            ValueError: No such element.
        """
        generators = [self.index(g) for g in _names(elements, "elements")]
        reached = {self.identity}
        frontier = [self.identity]
        while frontier:
            products = {int(self.cayley[g, h]) for g in generators for h in frontier}
            frontier = sorted(products - reached)
            reached |= products
        return tuple(sorted(reached))

    def is_subgroup(self, elements: Iterable[int | str]) -> bool:
        """Return whether ``elements`` (names or indices) form a subgroup: they hold ``e`` and are closed."""
        subset = {self.index(g) for g in _names(elements, "elements")}
        if self.identity not in subset:
            return False
        # In a finite group closure alone gives the inverses: g^-1 is a power of g.
        return all(int(self.cayley[g, h]) in subset for g in subset for h in subset)

    def subgroup(self, elements: Iterable[int | str], name: str | None = None) -> FiniteGroup:
        """Return the subgroup made of ``elements`` as a group of its own, element names kept.

        Raises:
            ValueError: The elements are not closed under multiplication.
        """
        members = sorted({self.index(g) for g in _names(elements, "elements")})
        if not self.is_subgroup(members):
            named = ", ".join(self.element_names[g] for g in members)
            raise ValueError(f"{{{named}}} is no subgroup of {self.name}; try generated_by(...) to close it")
        position = {g: i for i, g in enumerate(members)}
        table = [[position[int(self.cayley[g, h])] for h in members] for g in members]
        action = None if self.natural_action is None else self.natural_action[members]
        label = name or f"{self.name}[{','.join(self.element_names[g] for g in members)}]"
        return FiniteGroup(label, [self.element_names[g] for g in members], table, natural_action=action)

    def conjugacy_classes(self) -> list[tuple[int, ...]]:
        """Return the conjugacy classes ``{h g h^-1}``, each sorted, in order of their smallest element."""
        seen: set[int] = set()
        classes = []
        for g in range(self.order):
            if g not in seen:
                conjugates = self.cayley[self.cayley[:, g], self.inverses]
                members = tuple(sorted({int(c) for c in conjugates}))
                classes.append(members)
                seen.update(members)
        return classes

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, FiniteGroup)
            and self.element_names == other.element_names
            and torch.equal(self.cayley, other.cayley)
        )

    def __hash__(self) -> int:
        return hash(self.element_names)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __repr__(self) -> str:
        return f"FiniteGroup({self.name}, order {self.order})"

    def __str__(self) -> str:
        return self.name

    def _check_table(self) -> None:
        n = len(self.element_names)
        if n == 0 or len(self._position) != n:
            repeated = sorted({e for e in self.element_names if self.element_names.count(e) > 1})
            raise ValueError(f"{self.name}: element names must be distinct and not empty; repeated: {repeated}")
        if tuple(self.cayley.shape) != (n, n):
            raise ValueError(
                f"{self.name}: the Cayley table of {n} elements has shape [{n}, {n}], not {list(self.cayley.shape)}"
            )
        outside = (self.cayley < 0) | (self.cayley >= n)
        if bool(outside.any()):
            g, h = (int(i) for i in outside.nonzero()[0])
            raise ValueError(
                f"{self.name} is not closed: {self.element_names[g]} * {self.element_names[h]} = "
                f"{int(self.cayley[g, h])} is not an element index 0 .. {n - 1}"
            )

    def _find_identity(self) -> int:
        everyone = torch.arange(self.order)
        left = (self.cayley == everyone).all(dim=1)
        right = (self.cayley == everyone[:, None]).all(dim=0)
        candidates = (left & right).nonzero().flatten()
        if len(candidates) != 1:
            raise ValueError(f"{self.name} has no identity: no element leaves every other unchanged")
        return int(candidates[0])

    def _find_inverses(self) -> Tensor:
        is_identity = self.cayley == self.identity
        lonely = ((is_identity.sum(dim=1) != 1) | (is_identity.sum(dim=0) != 1)).nonzero().flatten()
        if len(lonely):
            raise ValueError(f"{self.name}: {self.element_names[int(lonely[0])]} has no unique inverse")
        return is_identity.long().argmax(dim=1)

    def _check_associative(self) -> None:
        # Light's test: the g with (a g) b = a (g b) for all a, b are closed under products, so generators suffice.
        for g in self.generators:
            left = self.cayley[self.cayley[:, g]]
            right = self.cayley[:, self.cayley[g]]
            if not torch.equal(left, right):
                a, b = (int(i) for i in (left != right).nonzero()[0])
                names = (self.element_names[a], self.element_names[g], self.element_names[b])
                raise ValueError(
                    f"{self.name} is not associative: ({names[0]} {names[1]}) {names[2]} differs from "
                    f"{names[0]} ({names[1]} {names[2]})"
                )

    def _find_generators(self) -> tuple[int, ...]:
        chosen: list[int] = []
        reached: tuple[int, ...] = (self.identity,)
        for g in range(self.order):
            if g not in reached:
                chosen.append(g)
                reached = self.generated_by(chosen)
        return tuple(chosen)

    def _check_natural_action(self, action: Tensor) -> None:
        if action.ndim != 2 or action.shape[0] != self.order:
            raise ValueError(
                f"{self.name}: a natural action has shape [{self.order}, points], not {list(action.shape)}"
            )
        for g in range(self.order):
            if sorted(action[g].tolist()) != list(range(action.shape[1])):
                raise ValueError(f"{self.name}: {self.element_names[g]} does not permute the points")
        for g in range(self.order):
            for h in self.generators:
                if not torch.equal(action[g][action[h]], action[self.cayley[g, h]]):
                    raise ValueError(
                        f"{self.name}: the natural action is no homomorphism at {self.element_names[g]}, "
                        f"{self.element_names[h]}"
                    )


def cyclic_group(n: int) -> FiniteGroup:
    """Return the cyclic group ``C_n``, elements ``e, r, r2, ...``; ``r`` carries point ``i`` to ``i + 1 mod n``.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: ``n < 1``.
    """
    n = whole_number(n, "n of cyclic_group", 1)
    exponents = torch.arange(n)
    return FiniteGroup(
        f"C{n}",
        [_power("r", k) or "e" for k in range(n)],
        (exponents[:, None] + exponents) % n,
        generators=["r"] if n > 1 else [],
        natural_action=(exponents[:, None] + exponents) % n,
    )


def dihedral_group(n: int) -> FiniteGroup:
    """Return the dihedral group ``D_n`` of order ``2n``: elements ``e, r, ..., s, rs, ...`` with ``s r s = r^-1``.

    ``r^k s`` means "first ``s``, then ``r^k``". On the corners of an n-gon ``r`` carries ``i`` to ``i + 1`` and ``s``
    carries ``i`` to ``-i`` (mod n). For ``n`` of 1 and 2 that action on ``n`` points is not faithful.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: ``n < 1``.
    """
    n = whole_number(n, "n of dihedral_group", 1)
    rotation = torch.arange(n).repeat(2)
    reflected = torch.arange(2).repeat_interleave(n)
    sign = 1 - 2 * reflected
    # r^a s^f r^b s^h = r^(a + (-1)^f b) s^(f + h)
    product_rotation = (rotation[:, None] + sign[:, None] * rotation) % n
    product_reflected = (reflected[:, None] + reflected) % 2
    points = torch.arange(n)
    names = [(_power("r", k) + ("s" if f else "")) or "e" for f in range(2) for k in range(n)]
    return FiniteGroup(
        f"D{n}",
        names,
        product_reflected * n + product_rotation,
        generators=["r", "s"] if n > 1 else ["s"],
        natural_action=(rotation[:, None] + sign[:, None] * points) % n,
    )


def symmetric_group(n: int) -> FiniteGroup:
    """Return the symmetric group ``S_n`` of all permutations of ``n`` points, named by their images: ``"102"``.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: ``n`` is not in 1 .. 6 (the Cayley table has ``(n!)^2`` entries).
    """
    n = whole_number(n, "n of symmetric_group", 1)
    if n > 6:
        raise ValueError(f"symmetric_group takes n from 1 to 6, not {n}: its Cayley table has (n!)^2 entries")
    swap = [1, 0, *range(2, n)]
    cycle = [*range(1, n), 0]
    return group_from_generators({"swap": swap, "cycle": cycle} if n > 1 else {"e": [0]}, name=f"S{n}")


def direct_product(first: FiniteGroup, second: FiniteGroup, name: str | None = None) -> FiniteGroup:
    """Return the direct product ``G x H``; element ``(g, h)`` has index ``g * |H| + h`` and the name ``"g,h"``.

    Raises:
        TypeError: A factor is no group.
    """
    n, m = (of_kind(factor, FiniteGroup, "a factor of a product").order for factor in (first, second))
    table = first.cayley[:, None, :, None] * m + second.cayley[None, :, None, :]
    names = [f"{g},{h}" for g in first.element_names for h in second.element_names]
    generators = [f"{first.element_names[g]},{second.element_names[second.identity]}" for g in first.generators]
    generators += [f"{first.element_names[first.identity]},{second.element_names[h]}" for h in second.generators]
    return FiniteGroup(name or f"{first.name}x{second.name}", names, table.reshape(n * m, n * m), generators=generators)


def group_from_generators(generators: Mapping[str, Sequence[int]], name: str | None = None) -> FiniteGroup:
    """Return the group that some permutations generate.

    Args:
        generators: Name to permutation: point ``i`` goes to ``permutation[i]``; all of one length.
        name: The group's name; by default ``"<a, b>"`` from the generators' names.

    Returns:
        The group of all products, identity first, elements named by the images of the points (``"1302"``, or
        ``"1.3.0.2"`` beyond ten points), with its natural action on the points.

    Raises:
        ValueError: No generators, lengths that differ, a sequence that is not a permutation, or more than 1024
            elements.
    """
    if not generators:
        raise ValueError("group_from_generators needs at least one permutation; {'e': [0]} gives the trivial group")
    read = {label: whole_numbers(given, f"generator {label!r}").tolist() for label, given in generators.items()}
    points = len(next(iter(read.values())))
    for label, permutation in read.items():
        if sorted(permutation) != list(range(points)):
            raise ValueError(f"generator {label!r} = {list(permutation)} is not a permutation of 0 .. {points - 1}")
    steps = [tuple(permutation) for permutation in read.values()]
    found = [tuple(range(points))]
    elements = {found[0]: 0}
    origins = [(0, 0)]  # each element is a step after an earlier one
    for element in found:  # which grows
        for k, step in enumerate(steps):
            product = tuple(step[i] for i in element)
            if product not in elements:
                origins.append((elements[element], k))
                elements[product] = len(elements)
                found.append(product)
        if len(elements) > _LARGEST_ORDER:
            raise ValueError(f"the permutations {list(generators)} generate more than {_LARGEST_ORDER} elements")
    after = torch.tensor([[elements[tuple(step[i] for i in g)] for g in found] for step in steps])
    table = torch.arange(len(elements)).repeat(len(elements), 1)
    for g, (earlier, k) in enumerate(origins[1:], start=1):
        table[g] = after[k][table[earlier]]
    action = torch.tensor(found)
    separator = "" if points <= 10 else "."
    names = [separator.join(str(i) for i in element) for element in elements]
    used = list(dict.fromkeys(names[elements[step]] for step in steps if elements[step]))
    label = name or f"<{', '.join(generators)}>"
    return FiniteGroup(label, names, table, generators=used, natural_action=action)


def _power(base: str, exponent: int) -> str:
    return "" if exponent == 0 else base if exponent == 1 else f"{base}{exponent}"


def _names(given: Iterable[Any], what: str) -> tuple[Any, ...]:
    if isinstance(given, str):
        raise TypeError(f"{what} is a list of names, such as ['r', 's']; got the one string {given!r}")
    return tuple(given)
