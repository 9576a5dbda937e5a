"""Semidirect products: a group of translations, say, together with turns that move the translations."""

from __future__ import annotations

import torch
from torch import Tensor

from equirl.arguments import of_kind
from equirl.groups import FiniteGroup
from equirl.tables import Table, as_table, check_rows_permute

__all__ = ["LARGEST_ORDER", "check_order", "semidirect_product", "semidirect_table"]

LARGEST_ORDER = 2048
"""Most elements of a group by products or from a file: its Cayley table takes 32 MiB."""


def semidirect_product(normal: FiniteGroup, acting: FiniteGroup, action: Table, name: str | None = None) -> FiniteGroup:
    r"""Return the semidirect product ``N \rtimes H``: ``(n, h) (m, k) = (n h(m), hk)``.

    ``(n, h)`` means "first ``h``, then ``n``". With the action that leaves every ``n`` as it is, this is the direct
    product.

    Args:
        normal: The normal factor ``N``, such as translations.
        acting: The factor ``H`` that acts on it, such as turns.
        action: Integers, shape ``[|H|, |N|]``: ``h`` carries ``n`` to ``action[h, n]``, which stands for
            ``h n h^-1``. Each row is an automorphism of ``N``.
        name: The group's name; by default the factors' names.

    Returns:
        The group of order ``|N| |H|``; element ``(n, h)`` has index ``n * |H| + h`` and the name ``"n,h"``.

    Raises:
        TypeError: A factor is no group, or the action holds no numbers.
        ValueError: The action is none of ``H`` on ``N``, or the product has more than 2048 elements; the message names
            the elements.
    """
    table = semidirect_table(normal, acting, action)
    names = [f"{n},{h}" for n in normal.element_names for h in acting.element_names]
    generators = [names[n * acting.order + acting.identity] for n in normal.generators]
    generators += [names[normal.identity * acting.order + h] for h in acting.generators]
    return FiniteGroup(name or f"{normal.name}:{acting.name}", names, table, generators=generators)


def semidirect_table(normal: FiniteGroup, acting: FiniteGroup, action: Table) -> Tensor:
    """Return the Cayley table of the semidirect product, integers, shape ``[|N| |H|, |N| |H|]``.

    Args:
        normal: As for ``semidirect_product``.
        acting: As for ``semidirect_product``.
        action: As for ``semidirect_product``.

    Raises:
        TypeError: As for ``semidirect_product``.
        ValueError: As for ``semidirect_product``.
    """
    for factor in (normal, acting):
        of_kind(factor, FiniteGroup, "a factor of a product")
    order = normal.order * acting.order
    check_order(order, f"the semidirect product of {normal} and {acting}")
    moved = as_table(action, "the action on the normal factor")
    if moved.shape != (acting.order, normal.order):
        raise ValueError(
            f"{acting} acts on the elements of {normal} by a table [{acting.order}, {normal.order}]; got "
            f"{list(moved.shape)}"
        )
    check_rows_permute(acting, moved)
    _check_automorphisms(normal, acting, moved)
    # [n, h, m, k]: n h(m), then hk
    first = normal.cayley[:, moved]  # [|N|, |H|, |N|]
    table = first[..., None] * acting.order + acting.cayley[None, :, None, :]
    return table.reshape(order, order)


def check_order(order: int, what: str) -> None:
    """Check that a group is small enough for a Cayley table.

    Raises:
        ValueError: It has more than 2048 elements.
    """
    if order > LARGEST_ORDER:
        raise ValueError(
            f"{what} would have {order} elements; groups are kept as tables of all products, which is made for at most "
            f"{LARGEST_ORDER}: use a smaller group, such as the translations or the turns alone"
        )


def _check_automorphisms(normal: FiniteGroup, acting: FiniteGroup, moved: Tensor) -> None:
    for h in range(acting.order):
        for n in normal.generators:
            broken = moved[h][normal.cayley[:, n]] != normal.cayley[moved[h], moved[h, n]]
            if bool(broken.any()):
                m = int(broken.nonzero()[0])
                raise ValueError(
                    f"{acting.element_names[h]} does not act on {normal} by an automorphism: it carries "
                    f"{normal.element_names[m]} {normal.element_names[n]} elsewhere than the product of what it makes "
                    "of the two"
                )
    for k in acting.generators:
        products = acting.cayley[:, k]
        broken = (moved[:, moved[k]] != moved[products]).any(dim=1)
        if bool(broken.any()):
            h = int(broken.nonzero()[0])
            raise ValueError(
                f"the action is no homomorphism: first {acting.element_names[k]}, then {acting.element_names[h]} is "
                f"not {acting.element_names[int(products[h])]}"
            )
    if not torch.equal(moved[acting.identity], torch.arange(normal.order)):
        raise ValueError(f"the identity of {acting} must leave every element of {normal} as it is")
