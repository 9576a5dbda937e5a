"""Representations: how a group element moves a tensor.

A representation turns the elements of a finite group into invertible maps of one sample, ``x -> rho(g) x``, with
``rho(g) rho(h) = rho(gh)``. The usual one is monomial: it permutes coordinates, perhaps with signs, and is stored as
one index table ``[|G|, n]`` (and a sign table), so that the whole orbit of a batch is one gather. Tables are
non-persistent buffers: they follow ``.to(device)`` and leave the ``state_dict`` as it was.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn

from equirl.arguments import of_kind, shape_of
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.monomial_kernels import MonomialKernels, monomial_matrices
from equirl.tables import Table, as_table, check_monomial_table, table_bytes

__all__ = [
    "MonomialRepresentation",
    "Representation",
    "Tree",
    "common_group",
    "element_per_sample",
    "map_tensors",
    "shape_message",
]

Tree: TypeAlias = Tensor | dict[str, Any]
"""A tensor, or a dictionary of trees, such as a dict observation."""


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

    def combine_one(self, y: Tensor, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g rho(g)^-1 y`` of one ``y`` for all elements: ``[B, *shape]``, weights ``[B, |G|]``.

        Raises:
            ValueError: ``y`` has another shape.
        """
        return self.combine(y.unsqueeze(1).expand(-1, self.group.order, *y.shape[1:]), weights)

    def average_rows(self, rows: Tensor) -> Tensor:
        """Return ``1/|G| sum_g rho(g)^-1 y_g`` of rows ``[B |G|, *shape]``, a sample's together: ``[B, *shape]``.

        Raises:
            ValueError: Rows of another shape.
        """
        return self.combine(rows.view(-1, self.group.order, *rows.shape[1:]), None)

    def transform_each(self, elements: Tensor, x: Tree) -> Tree:
        """Return ``rho(g_b) x_b`` for elements ``[B]`` that are known to be the group's; ``transform`` checks them.

        Raises:
            ValueError: ``x`` has another shape.
        """
        return self.transform(elements, x)

    def pull_back_each(self, elements: Tensor, y: Tree) -> Tree:
        """Return ``rho(g_b)^-1 y_b``, as ``transform_each``."""
        return self.transform(self.group.inverses.to(elements.device)[elements], y)

    @abstractmethod
    def transform(self, g: int | str | Tensor, x: Tree) -> Tree:
        """Return ``rho(g) x``: ``[B, *shape] -> [B, *shape]``.

        Args:
            g: One element, by index or name, or an element for each sample, integers ``[B]``.
            x: Samples.

        Raises:
            ValueError: No such element, or ``x`` has another shape.
        """

    def table_rows(self) -> list[bytes] | None:
        """Return for each element the tables by which it acts, as bytes that are the same on every machine.

        ``None`` where there are no such tables.
        """
        return None

    @abstractmethod
    def same_as(self, other: Representation) -> bool:
        """Return whether both move samples in the same way (same group, shape and tables)."""

    def forward(self, x: Tree) -> Tree:
        """Return the orbit of ``x``."""
        return self.orbit(x)


class MonomialRepresentation(Representation):
    """A representation that permutes coordinates, with optional signs: ``(rho(g) x)[i] = sign[g, i] x[index[g, i]]``.

    Coordinates are those of the flattened sample. How a batch is moved, and why so, is in
    :mod:`equirl.monomial_kernels`.

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
        self._kernels = self._make_kernels()

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
        kernels = self._kernels
        if isinstance(x, Tensor) and x.shape == (1, *self.shape) and eager(x):
            return kernels.views_of_one(x)
        return kernels.views_of_all(self.flatten(x)).view(-1, *self.shape)

    def average_rows(self, rows: Tensor) -> Tensor:  # noqa: D102
        if rows.shape[1:] != self.shape or not self._kernels.multiplies(rows.dtype):
            return super().average_rows(rows)
        return self._unflattened(self._kernels.average(rows.reshape(-1, self.group.order * self.dim)))

    def combine(self, y: Tree, weights: Tensor | None) -> Tensor:  # noqa: D102
        if not isinstance(y, Tensor) or not self._kernels.multiplies(y.dtype):
            return super().combine(y, weights)
        flat = self.flatten(y, leading=2)
        return self._unflattened(
            self._kernels.average(flat.reshape(-1, self.group.order * self.dim))
            if weights is None
            else self._kernels.weighted_sum(flat, weights)
        )

    def combine_one(self, y: Tensor, weights: Tensor) -> Tensor:  # noqa: D102
        if self._kernels.mixes(y.dtype):
            return self._unflattened(self._kernels.weighted_sum_of_one(self.flatten(y), weights))
        return super().combine_one(y, weights)

    def pull_back(self, y: Tree) -> Tensor:  # noqa: D102
        flat = self.flatten(y, leading=2)
        return self._kernels.pull_back(flat).view(-1, self.group.order, *self.shape)

    def transform(self, g: int | str | Tensor, x: Tree) -> Tensor:  # noqa: D102
        flat = self.flatten(x, leading=1)
        if isinstance(g, Tensor):
            return self.transform_each(element_per_sample(self.group, g, flat.shape[0]), x)
        return self._kernels.transform(self.group.index(g), flat).view(-1, *self.shape)

    def transform_each(self, elements: Tensor, x: Tree) -> Tensor:  # noqa: D102
        return self._kernels.transform_each(elements, self.flatten(x)).view(-1, *self.shape)

    def pull_back_each(self, elements: Tensor, y: Tree) -> Tensor:  # noqa: D102
        return self._kernels.pull_back_each(elements, self.flatten(y)).view(-1, *self.shape)

    def _make_kernels(self) -> MonomialKernels:
        return MonomialKernels(self.shape, self._index, self._inverse_index, self._sign, self._inverse_sign)

    def _unflattened(self, flat: Tensor) -> Tensor:
        return flat if len(self.shape) == 1 else flat.view(-1, *self.shape)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self._kernels = self._make_kernels()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # The kernels are made from the tables again: pickles of one version open in the next.
        return {name: value for name, value in super().__getstate__().items() if name != "_kernels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._kernels = self._make_kernels()

    def matrices(self) -> Tensor:
        """Return the matrices ``rho(g)``, shape ``[|G|, n, n]``, default float dtype."""
        return monomial_matrices(self._index, self._sign)

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
            return x if len(self.shape) == 1 else x.reshape(-1, *order, self.dim)
        raise ValueError(shape_message(self, x, order))


def map_tensors(tree: Tree, function: Callable[[Tensor], Tensor]) -> Tree:
    """Return the tree with ``function`` applied to each tensor."""
    if isinstance(tree, Tensor):
        return function(tree)
    return {key: map_tensors(value, function) for key, value in tree.items()}


def element_per_sample(group: FiniteGroup, elements: Tensor, batch: int) -> Tensor:
    """Return the elements, one for each sample.

    Raises:
        ValueError: Not integers ``[B]`` that are elements of the group.
    """
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


def shape_message(representation: Representation, x: Tree, order: tuple[int, ...], kind: str = "") -> str:
    """Return what to say of samples that do not fit a representation.

    Args:
        representation: The representation.
        x: What was given.
        order: The orbit's axis, ``(|G|,)``, or ``()`` for samples.
        kind: What the numbers must be, if it matters.
    """
    axes = ", ".join(["batch", *(str(n) for n in order), *(str(n) for n in representation.shape)])
    if not isinstance(x, Tensor):
        return f"expected a tensor [{axes}]; got {type(x).__name__}"
    return (
        f"this representation of {representation.group} acts on {kind}[{axes}]; got {x.dtype} {list(x.shape)}. "
        "Build the representation for the shape of your data, or reshape the data"
    )
