"""Tables of whole numbers by group element: read from what a user gives, copied, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equirl.arguments import whole_numbers
from equirl.groups import FiniteGroup

__all__ = ["Table", "as_table", "check_monomial_table", "check_rows_permute", "table_bytes"]

Table: TypeAlias = Tensor | Sequence[Sequence[int]]
"""Integers by group element, ``[|G|, n]``."""


def as_table(given: Any, what: str) -> Tensor:
    """Return a table as int64, a copy: what the caller does to its own array later changes nothing here.

    Args:
        given: A tensor, an array or nested lists; floats pass where they hold whole numbers.
        what: What the table is called in the message.

    Raises:
        TypeError: It holds no numbers, or truth values.
        ValueError: It holds fractions, NaN or infinities, its rows have different lengths, or it has not two axes.
    """
    table = whole_numbers(given, what)
    if table.ndim != 2:
        raise ValueError(f"{what} has one row per group element, [|G|, n]; got the shape {list(table.shape)}")
    if table.shape[1] == 0:
        raise ValueError(f"{what} acts on nothing: its rows are empty")
    return table


def table_bytes(table: Tensor) -> bytes:
    """Return a table's numbers as little-endian bytes, the same on every machine."""
    return table.numpy().astype("<i8").tobytes()


def check_rows_permute(group: FiniteGroup, table: Tensor) -> None:
    """Check that each row of a table ``[|G|, n]`` is a permutation.

    Raises:
        ValueError: One is not; its element is named.
    """
    everyone = torch.arange(table.shape[1])
    broken = (table.sort(dim=1).values != everyone).any(dim=1).nonzero().flatten()
    if len(broken):
        g = int(broken[0])
        raise ValueError(
            f"the row of {group.element_names[g]}, {_abridged(table[g])}, is not a permutation of "
            f"0 .. {table.shape[1] - 1}"
        )


def check_monomial_table(group: FiniteGroup, dim: int, index: Tensor, sign: Tensor | None) -> None:
    """Check that an index table and a sign table, each ``[|G|, n]``, are a representation of the group.

    Raises:
        ValueError: A size does not fit, a row is no permutation, a sign is not +1 or -1, or ``rho(g) rho(h) = rho(gh)``
            fails; the message names the elements.
    """
    if index.shape != (group.order, dim):
        raise ValueError(
            f"a representation of {group} on {dim} coordinates needs an index table [{group.order}, {dim}]; got "
            f"{list(index.shape)}"
        )
    check_rows_permute(group, index)
    if sign is not None:
        if sign.shape != index.shape:
            raise ValueError(f"the sign table has shape {list(sign.shape)}, the index table {list(index.shape)}")
        if bool((sign.abs() != 1).any()):
            g, i = (int(k) for k in (sign.abs() != 1).nonzero()[0])
            raise ValueError(f"signs are +1 or -1; {group.element_names[g]} has {int(sign[g, i])} at coordinate {i}")
    # (rho(g) rho(h) x)[i] = s_g[i] s_h[index_g[i]] x[index_h[index_g[i]]]; generators h suffice.
    for h in group.generators:
        products = group.cayley[:, h]
        broken = index[h][index] != index[products]
        if sign is not None:
            broken |= sign * sign[h][index] != sign[products]
        if bool(broken.any()):
            g, i = (int(k) for k in broken.nonzero()[0])
            raise ValueError(
                f"this table is no homomorphism: rho({group.element_names[g]}) rho({group.element_names[h]}) is not "
                f"rho({group.element_names[int(products[g])]}) at coordinate {i}; build tables from generators "
                "(representation_from_generators) or check the product order (gh: first h, then g)"
            )


def _abridged(row: Tensor) -> str:
    values = row.tolist()
    return str(values) if len(values) <= 12 else f"[{', '.join(map(str, values[:12]))}, ...]"
