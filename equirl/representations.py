"""Representations: how a group element moves a tensor.

A representation turns the elements of a finite group into invertible maps of one sample, ``x -> rho(g) x``, with
``rho(g) rho(h) = rho(gh)``. Every one here is monomial: it permutes coordinates, perhaps with signs, and is stored as
one index table ``[|G|, n]`` (and a sign table), so that the whole orbit of a batch is one gather. Tables are
non-persistent buffers: they follow ``.to(device)`` and leave the ``state_dict`` as it was.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias, cast, overload

import torch
from torch import Tensor, nn

from equirl.arguments import of_kind, shape_of
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.tables import Table, as_table, check_monomial_table, table_bytes

__all__ = [
    "MappingRepresentation",
    "MonomialRepresentation",
    "Representation",
    "TokenRepresentation",
    "Tree",
    "common_group",
    "map_tensors",
]

Tree: TypeAlias = Tensor | dict[str, Any]
"""A tensor, or a dictionary of trees, such as a dict observation."""

_LARGEST_SUMMING_MATRIX = 1 << 14
_LARGEST_TAKE = 1 << 11  # values of one sample's orbit up to which a single `take` is the fastest, measured


@dataclass(frozen=True)
class _HotTables:
    """What each forward pass needs, made from the tables once: nn.Module looks attributes up slowly."""

    index: Tensor
    inverse_index: Tensor
    flat_index: Tensor
    shaped_index: Tensor | None
    element_index: tuple[Tensor, ...]
    sign: Tensor | None
    inverse_sign: Tensor | None
    summing: Tensor | None
    averaging: Tensor | None


class Representation(nn.Module):
    """How each element of ``group`` moves one sample; the base of all representations.

    Attributes:
        group: The group represented.
        shape: Shape of one sample, without the batch axis (a mapping of shapes for dict observations).
    """

    group: FiniteGroup
    shape: Any

    def _keep_table(self, name: str, table: Tensor | None) -> None:
        """Keep a table of the group as a buffer outside the state dict, and a copy of it that no device move touches.

        ``to_empty`` (and with it the meta device, FSDP and accelerate) leaves a buffer with whatever was in memory, and
        no checkpoint holds these tables: they are filled in again from the copy.
        """
        self.register_buffer(name, table, persistent=False)
        if table is not None:
            self.__dict__.setdefault("_originals", {})[name] = table.clone()

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for name, original in self._kept().items():
                getattr(self, name).copy_(original)
        return self

    def _kept(self) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = self.__dict__.get("_originals", {})
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_originals"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        tables = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        self.__dict__["_originals"] = {name: buffer.cpu().clone() for name, buffer in tables.items()}

    @abstractmethod
    def orbit(self, x: Tree) -> Tree:
        """Return all transforms of each sample: ``[B, *shape] -> [B, |G|, *shape]``, entry ``g`` is ``rho(g) x``.

        Raises:
            ValueError: ``x`` has another shape.
        """

    @abstractmethod
    def pull_back(self, y: Tree) -> Tree:
        """Return ``rho(g)^-1 y[:, g]`` for every ``g``: ``[B, |G|, *shape] -> [B, |G|, *shape]``.

        Raises:
            ValueError: ``y`` has another shape.
        """

    def orbit_rows(self, x: Tree) -> Tree:
        """Return all transforms of all samples as one batch, ``[B, *shape] -> [B |G|, *shape]``, a sample's together.

        Raises:
            ValueError: ``x`` has another shape.
        """
        return map_tensors(self.orbit(x), lambda views: views.flatten(0, 1))

    def combine(self, y: Tree, weights: Tensor | None) -> Tensor:
        """Return ``sum_g w_g rho(g)^-1 y[:, g]``, or the mean where there are no weights.

        Args:
            y: Shape ``[B, |G|, *shape]``.
            weights: Shape ``[B, |G|]``.

        Returns:
            Shape ``[B, *shape]``.

        Raises:
            ValueError: ``y`` has another shape, or it is a dict.
        """
        moved = self.pull_back(y)
        if not isinstance(moved, Tensor):
            raise ValueError("a representation on outputs must act on tensors; a dict of outputs cannot be combined")
        if weights is None:
            return moved.mean(dim=1)
        return torch.bmm(weights.unsqueeze(1), moved.flatten(2)).view(-1, *moved.shape[2:])

    def average_rows(self, rows: Tensor) -> Tensor:
        """Return ``1/|G| sum_g rho(g)^-1 y_g`` of rows ``[B |G|, *shape]``, a sample's together: ``[B, *shape]``.

        Raises:
            ValueError: Rows of another shape.
        """
        return self.combine(rows.view(-1, self.group.order, *rows.shape[1:]), None)

    def apply_each(self, elements: Tensor, x: Tree) -> Tree:
        """Return ``rho(g_b) x_b`` for elements ``[B]`` that are known to be the group's; ``apply`` checks them.

        Raises:
            ValueError: ``x`` has another shape.
        """
        return self.apply(elements, x)

    def pull_back_each(self, elements: Tensor, y: Tree) -> Tree:
        """Return ``rho(g_b)^-1 y_b``, as ``apply_each``."""
        return self.apply(self.group.inverses.to(elements.device)[elements], y)

    @abstractmethod
    def _apply_element(self, g: int | str | Tensor, x: Tree) -> Tree:
        """Return ``rho(g) x``."""

    def table_rows(self) -> list[bytes] | None:
        """Return for each element the tables by which it acts, as bytes that are the same on every machine.

        ``None`` where there are no such tables.
        """
        return None

    @abstractmethod
    def same_as(self, other: Representation) -> bool:
        """Return whether both move samples in the same way (same group, shape and tables)."""

    @overload
    def apply(self, g: Callable[[nn.Module], None], x: None = None) -> Self: ...
    @overload
    def apply(self, g: int | str | Tensor, x: Tree) -> Tree: ...
    def apply(self, g: Callable[[nn.Module], None] | int | str | Tensor, x: Tree | None = None) -> Self | Tree:
        """Return ``rho(g) x``: ``[B, *shape] -> [B, *shape]``.

        ``g`` is one element (index or name), or integers ``[B]``, an element for each sample.

        With a callable alone it is ``nn.Module.apply``, which a parent module calls on its children.

        Raises:
            ValueError: No such element, or ``x`` has another shape.
        """
        if x is None:
            return super().apply(cast("Callable[[nn.Module], None]", g))
        return self._apply_element(cast("int | str | Tensor", g), x)

    def forward(self, x: Tree) -> Tree:
        """Return the orbit of ``x``."""
        return self.orbit(x)


class MonomialRepresentation(Representation):
    """A representation that permutes coordinates, with optional signs: ``(rho(g) x)[i] = sign[g, i] x[index[g, i]]``.

    Coordinates are those of the flattened sample.

    Args:
        group: The group represented.
        shape: Shape of one sample, ``n`` coordinates in all.
        index: Integers, shape ``[|G|, n]``: where coordinate ``i`` of ``rho(g) x`` is read from.
        sign: Entries +1 and -1, shape ``[|G|, n]``; ``None`` for all +1.

    Raises:
        ValueError: The tables' size does not fit group and shape, a row is no permutation, a sign is not +1 or -1, or
            ``rho(g) rho(h) = rho(gh)`` fails; the message names the two elements.
    """

    _index: Tensor
    _inverse_index: Tensor
    _sign: Tensor | None
    _inverse_sign: Tensor | None

    def __init__(self, group: FiniteGroup, shape: Sequence[int], index: Table, sign: Table | None = None) -> None:
        super().__init__()
        self.group = of_kind(group, FiniteGroup, "group")
        self.shape = shape_of(shape)
        self.dim: int = math.prod(self.shape)
        table = as_table(index, "the index table")
        signs = None if sign is None else as_table(sign, "the sign table")
        check_monomial_table(group, self.dim, table, signs)
        if signs is not None and bool((signs == 1).all()):
            signs = None
        as_float = None if signs is None else signs.to(torch.get_default_dtype())
        self._keep_table("_index", table)
        self._keep_table("_inverse_index", table[group.inverses])
        self._keep_table("_sign", as_float)
        self._keep_table("_inverse_sign", None if as_float is None else as_float[group.inverses])
        self._hot = self._hot_tables()

    @property
    def index(self) -> Tensor:
        """A copy of the index table, integers, shape ``[|G|, n]``."""
        return self._index.clone()

    @property
    def sign(self) -> Tensor:
        """A copy of the sign table, entries +1 and -1, shape ``[|G|, n]``."""
        return torch.ones(self._index.shape, device=self._index.device) if self._sign is None else self._sign.clone()

    def orbit(self, x: Tree) -> Tensor:  # noqa: D102
        return self.orbit_rows(x).view(-1, self.group.order, *self.shape)

    def orbit_rows(self, x: Tree) -> Tensor:  # noqa: D102
        hot = self._hot
        if hot.shaped_index is not None and isinstance(x, Tensor) and x.shape == (1, *self.shape) and eager(x):
            return x.take(hot.shaped_index)
        flat = self.flatten(x)
        # The faster of torch's ways to pick columns, measured: by a factor of two for floats, of three for bytes.
        if flat.is_floating_point() or (flat.shape[0] == 1 and eager(flat)):
            moved = flat.index_select(1, hot.flat_index)
        else:
            moved = flat.gather(1, hot.flat_index.expand(flat.shape[0], -1))
        if hot.sign is not None:
            moved = _with_sign(moved.view(-1, self.group.order, self.dim), hot.sign)
        return moved.view(-1, *self.shape)

    def average_rows(self, rows: Tensor) -> Tensor:  # noqa: D102
        averaging = self._hot.averaging
        if averaging is None or rows.dtype != averaging.dtype or rows.shape[1:] != self.shape:
            return super().average_rows(rows)
        averaged = rows.reshape(-1, self.group.order * self.dim).mm(averaging)
        return averaged if len(self.shape) == 1 else averaged.view(-1, *self.shape)

    def combine(self, y: Tree, weights: Tensor | None) -> Tensor:  # noqa: D102
        hot = self._hot
        if hot.summing is None or hot.averaging is None or not isinstance(y, Tensor) or y.dtype != hot.summing.dtype:
            return super().combine(y, weights)
        # For few coordinates one product with all rho(g)^-1 side by side is faster than moving and adding.
        flat = self.flatten(y, leading=2)
        if weights is None:
            summed = flat.reshape(-1, self.group.order * self.dim) @ hot.averaging
        else:
            summed = (weights.unsqueeze(2) * flat).view(-1, self.group.order * self.dim) @ hot.summing
        return summed if len(self.shape) == 1 else summed.view(-1, *self.shape)

    def pull_back(self, y: Tree) -> Tensor:  # noqa: D102
        flat = self.flatten(y, leading=2)
        hot = self._hot
        moved = flat.gather(2, hot.inverse_index.expand(flat.shape[0], -1, -1))
        if hot.inverse_sign is not None:
            moved = _with_sign(moved, hot.inverse_sign)
        return moved.view(flat.shape[0], self.group.order, *self.shape)

    def _apply_element(self, g: int | str | Tensor, x: Tree) -> Tensor:
        flat = self.flatten(x, leading=1)
        if isinstance(g, Tensor):
            return self.apply_each(_element_per_sample(self.group, g, flat.shape[0]), x)
        element = self.group.index(g)
        moved = flat.index_select(1, self._hot.element_index[element])
        if self._hot.sign is not None:
            moved = _with_sign(moved, self._hot.sign[element])
        return moved.view(-1, *self.shape)

    def apply_each(self, elements: Tensor, x: Tree) -> Tensor:  # noqa: D102
        return self._moved_by_each(self._hot.index, self._hot.sign, elements, x)

    def pull_back_each(self, elements: Tensor, y: Tree) -> Tensor:  # noqa: D102
        return self._moved_by_each(self._hot.inverse_index, self._hot.inverse_sign, elements, y)

    def _moved_by_each(self, index: Tensor, sign: Tensor | None, elements: Tensor, x: Tree) -> Tensor:
        moved = self.flatten(x).gather(1, index.index_select(0, elements))
        if sign is not None:
            moved = _with_sign(moved, sign.index_select(0, elements))
        return moved.view(-1, *self.shape)

    def _hot_tables(self) -> _HotTables:
        summing = None
        if self.group.order * self.dim**2 <= _LARGEST_SUMMING_MATRIX:
            # y[:, g] goes to sum_g rho(g)^-1 y[:, g]; rho(g)^-1 is the transpose of rho(g).
            summing = self.matrices().reshape(-1, self.dim)
        averaging = None if summing is None else summing / self.group.order
        small = self._sign is None and self._index.numel() <= _LARGEST_TAKE
        return _HotTables(
            self._index,
            self._inverse_index,
            self._index.reshape(-1),
            self._index.view(self.group.order, *self.shape) if small else None,
            tuple(self._index),
            self._sign,
            self._inverse_sign,
            summing,
            averaging,
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._hot = self._hot_tables()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # What is made from the tables is made anew: pickles of one version open in the next.
        return {name: value for name, value in super().__getstate__().items() if name != "_hot"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._hot = self._hot_tables()

    def matrices(self) -> Tensor:
        """Return the matrices ``rho(g)``, shape ``[|G|, n, n]``, default float dtype."""
        basis = torch.eye(self.dim, device=self._index.device)
        return basis[self._index] * self.sign[..., None]

    def character(self) -> Tensor:
        """Return the character ``chi(g) = trace rho(g)``, shape ``[|G|]``, default float dtype."""
        fixed = self._index == torch.arange(self.dim, device=self._index.device)
        return (fixed * self.sign).sum(dim=1)

    def table_rows(self) -> list[bytes]:  # noqa: D102
        signed = torch.stack([self._index.cpu(), self.sign.cpu().long()], dim=1)
        return [repr(self.shape).encode() + table_bytes(row) for row in signed]

    def same_as(self, other: Representation) -> bool:  # noqa: D102
        return (
            isinstance(other, MonomialRepresentation)
            and self.group == other.group
            and self.shape == other.shape
            and torch.equal(self._index.cpu(), other._index.cpu())
            and torch.equal(self.sign.cpu(), other.sign.cpu())
        )

    def extra_repr(self) -> str:  # noqa: D102
        return f"group={self.group}, shape={list(self.shape)}"

    def flatten(self, x: Tree, leading: int = 1) -> Tensor:
        """Return samples ``[B, *shape]`` as vectors ``[B, n]``; with ``leading=2`` orbits ``[B, |G|, *shape]``.

        Raises:
            ValueError: ``x`` has another shape.
        """
        order = (self.group.order,) if leading == 2 else ()
        if isinstance(x, Tensor) and x.shape[1:] == (*order, *self.shape):
            return x if len(self.shape) == 1 else x.reshape(*x.shape[:leading], self.dim)
        raise ValueError(_shape_message(self, x, order))


class TokenRepresentation(Representation):
    """A permutation of integer *values*, for text and discrete observations: ``(rho(g) x)[i] = table[g, x[i]]``.

    Args:
        group: The group represented.
        table: Integers, shape ``[|G|, vocabulary]``: what element ``g`` turns each value into.
        shape: Shape of one sample; ``-1`` stands for any length.

    Raises:
        ValueError: The table's size does not fit, a row is no permutation, or ``rho(g) rho(h) = rho(gh)`` fails.
    """

    _table: Tensor

    def __init__(self, group: FiniteGroup, table: Table, shape: Sequence[int] = (-1,)) -> None:
        super().__init__()
        self.group = of_kind(group, FiniteGroup, "group")
        self.shape = shape_of(shape, least=-1)
        values = as_table(table, "the table of values")
        if len(values) != group.order:
            raise ValueError(f"the table of values has {len(values)} rows; {group} has {group.order} elements")
        # On values the table composes as table[g][table[h]], the inverse of how a gather index does.
        check_monomial_table(group, values.shape[-1], values[group.inverses], None)
        self._keep_table("_table", values)

    @property
    def table(self) -> Tensor:
        """A copy of the value table, integers, shape ``[|G|, vocabulary]``."""
        return self._table.clone()

    def orbit(self, x: Tree) -> Tensor:  # noqa: D102
        tokens = self.check(x, leading=1)
        return self._table[:, tokens].movedim(0, 1)

    def pull_back(self, y: Tree) -> Tensor:  # noqa: D102
        tokens = self.check(y, leading=2)
        inverse = self._table[self.group.inverses.to(self._table.device)]
        elements = torch.arange(self.group.order, device=tokens.device).view(1, -1, *[1] * (tokens.ndim - 2))
        return inverse[elements, tokens]

    def _apply_element(self, g: int | str | Tensor, x: Tree) -> Tensor:
        tokens = self.check(x, leading=1)
        if isinstance(g, Tensor):
            elements = _element_per_sample(self.group, g, tokens.shape[0])
            return self._table[elements.view(-1, *[1] * (tokens.ndim - 1)), tokens]
        return self._table[self.group.index(g)][tokens]

    def on_logits(self) -> MonomialRepresentation:
        """Return the matching action on scores over the values, sample shape ``[vocabulary]``."""
        table = self._table.cpu()[self.group.inverses]
        return MonomialRepresentation(self.group, (table.shape[1],), table).to(self._table.device)

    def table_rows(self) -> list[bytes]:  # noqa: D102
        return [repr(self.shape).encode() + table_bytes(row) for row in self._table.cpu()]

    def same_as(self, other: Representation) -> bool:  # noqa: D102
        return (
            isinstance(other, TokenRepresentation)
            and self.group == other.group
            and self.shape == other.shape
            and torch.equal(self._table.cpu(), other._table.cpu())
        )

    def extra_repr(self) -> str:  # noqa: D102
        return f"group={self.group}, vocabulary={self._table.shape[1]}, shape={list(self.shape)}"

    def check(self, x: Tree, leading: int = 1) -> Tensor:
        """Return tokens ``[B, *shape]``, or orbits of them with ``leading=2``, as int64.

        Raises:
            ValueError: ``x`` has another shape, holds no integers, or tokens outside the vocabulary.
        """
        order = (self.group.order,) if leading == 2 else ()
        expected = (*order, *self.shape)
        if isinstance(x, Tensor) and not x.is_floating_point() and x.ndim == 1 + len(expected):
            fits = all(want in (-1, got) for want, got in zip(expected, x.shape[1:], strict=True))
            if fits:
                tokens = x.long()
                if (
                    eager(tokens)
                    and tokens.numel()
                    and not 0 <= int(tokens.min()) <= int(tokens.max()) < self._table.shape[1]
                ):
                    raise ValueError(
                        f"tokens from {int(tokens.min())} to {int(tokens.max())} do not fit a vocabulary of "
                        f"{self._table.shape[1]} values"
                    )
                return tokens
        raise ValueError(_shape_message(self, x, order))


class MappingRepresentation(Representation):
    """A representation on dict observations: one representation per key, each acting on its own entry.

    Args:
        parts: Key to representation; all of one group. Nesting is allowed.

    Raises:
        ValueError: No parts, or parts of different groups.
    """

    def __init__(self, parts: Mapping[str, Representation]) -> None:
        super().__init__()
        self.group = common_group(list(of_kind(parts, Mapping, "parts").values()))  # type: ignore[type-abstract]
        # ModuleDict refuses keys with dots, so the keys are kept apart from the module names.
        self.keys = tuple(parts)
        self._parts = nn.ModuleList(parts.values())
        self.shape = {key: part.shape for key, part in parts.items()}

    def part(self, key: str) -> Representation:
        """Return the representation on the entry ``key``."""
        return cast(Representation, self._parts[self.keys.index(key)])

    def orbit(self, x: Tree) -> dict[str, Any]:  # noqa: D102
        return self._each(x, lambda part, entry: part.orbit(entry))

    def pull_back(self, y: Tree) -> dict[str, Any]:  # noqa: D102
        return self._each(y, lambda part, entry: part.pull_back(entry))

    def _apply_element(self, g: int | str | Tensor, x: Tree) -> dict[str, Any]:
        return self._each(x, lambda part, entry: part.apply(g, entry))

    def table_rows(self) -> list[bytes] | None:  # noqa: D102
        rows = [b""] * self.group.order
        for key in sorted(self.keys):
            parts = self.part(key).table_rows()
            if parts is None:
                return None
            rows = [row + key.encode() + b"\0" + part for row, part in zip(rows, parts, strict=True)]
        return rows

    def same_as(self, other: Representation) -> bool:  # noqa: D102
        return (
            isinstance(other, MappingRepresentation)
            and set(self.keys) == set(other.keys)
            and all(self.part(key).same_as(other.part(key)) for key in self.keys)
        )

    def entries(self, x: Tree) -> list[Tree]:
        """Return the entries of a dict in the order of ``keys``.

        Raises:
            ValueError: Other keys, or no dict.
        """
        return list(self._each(x, lambda _, entry: entry).values())

    def _each(self, x: Tree, act: Callable[[Representation, Tree], Tree]) -> dict[str, Any]:
        if isinstance(x, Tensor) or set(x) != set(self.keys):
            given = "a tensor" if isinstance(x, Tensor) else f"the keys {sorted(x)}"
            raise ValueError(f"this representation acts on a dict with the keys {sorted(self.keys)}; got {given}")
        return {key: act(self.part(key), x[key]) for key in self.keys}


def map_tensors(tree: Tree, function: Callable[[Tensor], Tensor]) -> Tree:
    """Return the tree with ``function`` applied to each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    return {key: map_tensors(value, function) for key, value in tree.items()}


def _element_per_sample(group: FiniteGroup, elements: Tensor, batch: int) -> Tensor:
    if (
        elements.shape != (batch,)
        or elements.is_floating_point()
        or elements.dtype == torch.bool
        or (eager(elements) and bool(((elements < 0) | (elements >= group.order)).any()))
    ):
        raise ValueError(
            f"elements per sample are integers [{batch}] in 0 .. {group.order - 1}; got {elements.dtype} "
            f"{list(elements.shape)}"
        )
    return elements


def _with_sign(x: Tensor, sign: Tensor) -> Tensor:
    # Unsigned integers cannot change sign, so integers become floats.
    return x * sign.to(x.dtype) if x.is_floating_point() or x.is_complex() else x * sign


def common_group(parts: Sequence[Representation]) -> FiniteGroup:
    """Return the group of some representations.

    Raises:
        ValueError: There are none, or they are of different groups.
    """
    if not parts:
        raise ValueError("at least one representation is needed")
    for part in parts:
        of_kind(part, Representation, "a part")  # type: ignore[type-abstract]
    for part in parts[1:]:
        if part.group != parts[0].group:
            raise ValueError(
                f"one part represents {parts[0].group}, another {part.group}; build all from the same group"
            )
    return parts[0].group


def _shape_message(representation: Representation, x: Tree, order: tuple[int, ...]) -> str:
    axes = ", ".join(["batch", *(str(n) for n in order), *(str(n) for n in representation.shape)])
    if not isinstance(x, Tensor):
        return f"expected a tensor [{axes}]; got {type(x).__name__}"
    kind = "integers, " if isinstance(representation, TokenRepresentation) else ""
    return (
        f"this representation of {representation.group} acts on {kind}[{axes}]; got {x.dtype} {list(x.shape)}. "
        "Build the representation for the shape of your data, or reshape the data"
    )
