"""Permutations of integer values: how a group moves text and discrete observations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equirl.arguments import of_kind, shape_of
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.representations import (
    MonomialRepresentation,
    Representation,
    Tree,
    element_per_sample,
    shape_message,
)
from equirl.tables import Table, as_table, check_monomial_table, table_bytes

__all__ = ["TokenRepresentation"]


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

    def transform(self, g: int | str | Tensor, x: Tree) -> Tensor:  # noqa: D102
        tokens = self.check(x, leading=1)
        if isinstance(g, Tensor):
            elements = element_per_sample(self.group, g, tokens.shape[0])
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
        raise ValueError(shape_message(self, x, order, "integers, "))
