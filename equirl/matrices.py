"""Representations by orthogonal matrices: turns of plane vectors by any angle, irreps, sums and products of them.

A monomial representation permutes coordinates; these mix them. Everything that takes a :class:`Representation` takes
both kinds, and the matrix form of a monomial one moves samples alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from equirl.arguments import of_kind, shape_of, whole_number
from equirl.constructions import direct_sum
from equirl.groups import FiniteGroup, cyclic_group, dihedral_group, symmetric_group
from equirl.representations import (
    MonomialRepresentation,
    Representation,
    Tree,
    common_group,
    element_per_sample,
    shape_message,
)

__all__ = [
    *(
        "Linear",
        "MatrixRepresentation",
        "beside",
        "blocks",
        "cyclic_irrep",
        "dihedral_irrep",
        "matrix_form",
        "matrix_product",
        "matrix_sum",
    ),
    *("plane_representation", "simplest_form", "standard_representation"),
]

_TOLERANCE = 1e-6
_ROUNDED = 5  # digits of the entries that a fingerprint looks at

Linear: TypeAlias = "MatrixRepresentation | MonomialRepresentation"


class MatrixRepresentation(Representation):
    """A representation by orthogonal matrices: ``(rho(g) x)_i = sum_j matrices[g, i, j] x_j`` of the flattened sample.

    Args:
        group: The group represented.
        matrices: Shape ``[|G|, n, n]``, real.
        shape: Shape of one sample, ``n`` coordinates in all; by default ``[n]``.

    Raises:
        TypeError: The matrices are no real numbers.
        ValueError: Their size does not fit group and shape, one is not orthogonal, or ``rho(g) rho(h) = rho(gh)``
            fails; the message names the elements.
    """

    _matrices: Tensor

    def __init__(self, group: FiniteGroup, matrices: Any, shape: Sequence[int] | None = None) -> None:
        super().__init__()
        self.group = of_kind(group, FiniteGroup, "group")
        try:
            table = torch.as_tensor(matrices)
        except (RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"the matrices of a representation are real numbers; got {matrices!r}") from error
        if table.is_complex() or table.dtype == torch.bool:
            raise TypeError(f"the matrices of a representation are real numbers; got {table.dtype}")
        table = table.to(torch.float64)
        if table.ndim != 3 or table.shape[0] != group.order or table.shape[1] != table.shape[2]:
            raise ValueError(
                f"a representation of {group} takes a square matrix for each element, [{group.order}, n, n]; got "
                f"{list(table.shape)}"
            )
        self.shape = (table.shape[1],) if shape is None else shape_of(shape)
        self.dim: int = math.prod(self.shape)
        if self.dim != table.shape[1]:
            raise ValueError(
                f"samples {list(self.shape)} have {self.dim} numbers; the matrices act on {table.shape[1]}"
            )
        _check(group, table)
        self._keep_table("_matrices", _snapped(table))

    def matrices(self) -> Tensor:
        """Return the matrices ``rho(g)``, shape ``[|G|, n, n]``."""
        return self._matrices.to(torch.get_default_dtype())

    def character(self) -> Tensor:
        """Return the character ``chi(g) = trace rho(g)``, shape ``[|G|]``."""
        return self._matrices.diagonal(dim1=1, dim2=2).sum(dim=1).to(torch.get_default_dtype())

    def orbit(self, x: Tree) -> Tensor:
        flat = self._flat(x)
        return torch.einsum("gij,bj->bgi", self._as(flat), flat).view(-1, self.group.order, *self.shape)

    def pull_back(self, y: Tree) -> Tensor:
        flat = self._flat(y, views=True)
        return torch.einsum("gji,bgj->bgi", self._as(flat), flat).view(-1, self.group.order, *self.shape)

    def transform(self, g: int | str | Tensor, x: Tree) -> Tensor:
        flat = self._flat(x)
        if isinstance(g, Tensor):
            return self.transform_each(element_per_sample(self.group, g, flat.shape[0]), x)
        return (flat @ self._as(flat)[self.group.index(g)].T).view(-1, *self.shape)

    def transform_each(self, elements: Tensor, x: Tree) -> Tensor:
        flat = self._flat(x)
        return torch.einsum("bij,bj->bi", self._as(flat)[elements], flat).view(-1, *self.shape)

    def pull_back_each(self, elements: Tensor, y: Tree) -> Tensor:
        flat = self._flat(y)
        return torch.einsum("bji,bj->bi", self._as(flat)[elements], flat).view(-1, *self.shape)

    def table_rows(self) -> list[bytes]:
        rounded = (self._matrices.cpu().double() * 10**_ROUNDED).round().long()  # the last digits differ by machine
        return [repr(self.shape).encode() + matrix.numpy().tobytes() for matrix in rounded]

    def same_as(self, other: Representation) -> bool:
        return (
            isinstance(other, MatrixRepresentation)
            and self.group == other.group
            and self.shape == other.shape
            and bool(torch.allclose(self._matrices.cpu(), other._matrices.cpu().to(self._matrices), atol=_TOLERANCE))
        )

    def extra_repr(self) -> str:
        return f"group={self.group}, shape={list(self.shape)}"

    def _as(self, like: Tensor) -> Tensor:
        return self._matrices.to(like.dtype)

    def _flat(self, x: Tree, views: bool = False) -> Tensor:
        order = (self.group.order,) if views else ()
        if not isinstance(x, Tensor) or tuple(x.shape[1:]) != (*order, *self.shape):
            raise ValueError(shape_message(self, x, order))
        flat = x.reshape(x.shape[0], *order, self.dim)
        return flat if flat.is_floating_point() or flat.is_complex() else flat.to(torch.get_default_dtype())


def matrix_form(representation: Linear) -> MatrixRepresentation:
    """Return the matrix form of a monomial representation; a matrix one stays as it is."""
    if isinstance(representation, MatrixRepresentation):
        return representation
    monomial = of_kind(representation, MonomialRepresentation, "representation")
    return MatrixRepresentation(monomial.group, monomial.matrices(), monomial.shape)


def simplest_form(representation: Linear) -> Linear:
    """Return the monomial form if every matrix permutes coordinates, perhaps with signs; otherwise the matrix form."""
    if not isinstance(representation, MatrixRepresentation):
        return representation
    matrices = representation.matrices()
    index = matrices.abs().argmax(dim=2)
    sign = matrices.gather(2, index.unsqueeze(2)).squeeze(2)
    if bool((matrices.abs().sum(dim=2) != 1).any()) or bool((sign.abs() != 1).any()):
        return representation
    return MonomialRepresentation(representation.group, representation.shape, index, sign.long())


def matrix_sum(*parts: Linear) -> MatrixRepresentation:
    """Return the direct sum: samples are the parts' samples, flattened and concatenated, shape ``[sum n]``.

    Raises:
        ValueError: No parts, or parts of different groups.
    """
    group = common_group(list(parts))
    blocks = [matrix_form(part).matrices() for part in parts]
    summed = [torch.block_diag(*each) for each in zip(*blocks, strict=True)]  # type: ignore[no-untyped-call]
    return MatrixRepresentation(group, torch.stack(summed))


def beside(*parts: Linear) -> Linear:
    """Return the parts one after another, as ``direct_sum`` does: monomial where all parts are.

    Raises:
        ValueError: No parts, or parts of different groups.
    """
    monomial = [part for part in parts if isinstance(part, MonomialRepresentation)]
    return direct_sum(*monomial) if len(monomial) == len(parts) else matrix_sum(*parts)


def blocks(representation: MatrixRepresentation) -> Tensor:
    """Return which coordinates the group mixes with each other, 1 where it does: ``[n, n]``.

    Coordinates of one block are joined by entries of some matrix, perhaps over others between them.
    """
    joined = (representation.matrices().abs().amax(dim=0) > _TOLERANCE).double()
    for _ in range(max(1, math.ceil(math.log2(representation.dim)))):
        joined = ((joined @ joined.T) > 0).double()
    return joined.to(torch.get_default_dtype())


def matrix_product(first: Linear, second: Linear) -> MatrixRepresentation:
    """Return the tensor product ``rho_1(g) (x) rho_2(g)`` on samples ``[*shape_1, *shape_2]``.

    Raises:
        ValueError: Factors of different groups.
    """
    group = common_group([first, second])
    ours, theirs = (matrix_form(each).matrices() for each in (first, second))
    products = torch.stack([torch.kron(a, b) for a, b in zip(ours, theirs, strict=True)])
    return MatrixRepresentation(group, products, (*first.shape, *second.shape))


def cyclic_irrep(n: int, frequency: int = 1) -> MatrixRepresentation:
    """Return a real irrep of the cyclic group ``C_n``: element ``k`` turns the plane by ``2 pi frequency k / n``.

    Frequency 0 and, for even ``n``, ``n / 2`` have one coordinate: the trivial one, and the sign ``(-1)^k``.

    Args:
        n: Order of the group.
        frequency: From 0 to ``n / 2``.

    Raises:
        TypeError: A number that is not whole.
        ValueError: Out of range.
    """
    group = cyclic_group(n)
    _check_frequency(frequency, n // 2, n)
    if frequency == 0 or 2 * frequency == n:
        signs = [[[1.0 if frequency == 0 or k % 2 == 0 else -1.0]] for k in range(n)]
        return MatrixRepresentation(group, torch.tensor(signs))
    return MatrixRepresentation(group, torch.stack([_turn(2 * math.pi * frequency * k / n) for k in range(n)]))


def dihedral_irrep(n: int, frequency: int = 1) -> MatrixRepresentation:
    """Return the two-dimensional irrep of the dihedral group ``D_n``: turns by ``2 pi frequency / n``, and a mirror.

    ``dihedral_group(n)`` counts the turns first and then the turns of the mirror, ``r^k m``; the mirror changes the
    sign of the first coordinate.

    Args:
        n: The group has ``2 n`` elements.
        frequency: From 1 to below ``n / 2``.

    Raises:
        TypeError: A number that is not whole.
        ValueError: Out of range.
    """
    group = dihedral_group(n)
    whole_number(frequency, "frequency", 1)
    _check_frequency(frequency, (n - 1) // 2, n)
    mirror = torch.tensor([[-1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    turns = [_turn(2 * math.pi * frequency * k / n) for k in range(n)]
    return MatrixRepresentation(group, torch.stack([*turns, *(turn @ mirror for turn in turns)]))


def plane_representation(n: int, mirrors: bool = False) -> Linear:
    """Return how ``C_n``, or with mirrors ``D_n``, turns vectors ``(x, y)`` of the plane.

    Of quarter turns it is monomial, so that they are as exact and as fast as those of images.

    Args:
        n: Number of turns, at least 3; ``C_2`` is minus the identity.
        mirrors: Whether the mirror ``(x, y) -> (-x, y)`` is among them.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: It is less than 3.
    """
    whole_number(n, "n, the number of turns,", 3)
    return simplest_form(dihedral_irrep(n) if mirrors else cyclic_irrep(n))


def standard_representation(n: int) -> MatrixRepresentation:
    """Return the standard representation of ``S_n``: permuted coordinates whose sum is zero, ``n - 1`` dimensions.

    Raises:
        TypeError: ``n`` is no whole number.
        ValueError: It is less than 2.
    """
    whole_number(n, "n", 2)
    group = symmetric_group(n)
    if group.natural_action is None:
        raise ValueError(f"{group} does not say how it permutes points")
    permutations = torch.nn.functional.one_hot(group.natural_action.long(), n).transpose(1, 2).to(torch.float64)
    # An orthonormal basis of the vectors whose entries sum to zero (Helmert's).
    basis = torch.zeros(n - 1, n, dtype=torch.float64)
    for k in range(1, n):
        basis[k - 1, :k], basis[k - 1, k] = 1.0, -float(k)
    basis /= basis.norm(dim=1, keepdim=True)
    return MatrixRepresentation(group, basis @ permutations @ basis.T)


def _turn(angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    return torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)


def _snapped(matrices: Tensor) -> Tensor:
    """Return the matrices with entries that are 0, 1 and -1 up to round-off made so: quarter turns are exact."""
    whole = matrices.round()
    return torch.where((matrices - whole).abs() < 1e-12, whole, matrices)


def _check_frequency(frequency: int, most: int, n: int) -> None:
    if whole_number(frequency, "frequency", 0) > most:
        known = f"end at {most}" if most else "of two dimensions do not exist"
        raise ValueError(f"the frequencies of irreps for n={n} {known}; got frequency {frequency}")


def _check(group: FiniteGroup, matrices: Tensor) -> None:
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype)
    apart = (matrices @ matrices.transpose(1, 2) - identity).abs().amax(dim=(1, 2))
    wrong = (~(apart <= _TOLERANCE)).nonzero()
    if len(wrong):
        name = group.element_names[int(wrong[0])]
        raise ValueError(f"the matrix of {name} is not orthogonal: rho(g)^T rho(g) must be the identity")
    for g in range(group.order):
        gap = (matrices[g] @ matrices - matrices[group.cayley[g]]).abs().amax(dim=(1, 2))
        if bool((gap > _TOLERANCE).any()):
            h = int(gap.argmax())
            names = group.element_names
            raise ValueError(
                f"not a representation of {group}: rho({names[g]}) rho({names[h]}) is not "
                f"rho({names[int(group.cayley[g, h])]})"
            )
