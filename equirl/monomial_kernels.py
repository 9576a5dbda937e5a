"""How a monomial representation moves a batch: which of torch's operations, when, and what each buys.

The choice affects speed alone: every kernel computes the formulas of
:class:`~equirl.representations.MonomialRepresentation`. The gains that are named here come from
``equirl bench --sections kernels`` on two AMD EPYC cores, 2026-11-26, D4 on an 8 x 8 grid of 3 channels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equirl.eager import eager

__all__ = ["MonomialKernels", "monomial_matrices"]

_LARGEST_TAKE = 1 << 11
"""Entries of one sample's orbit up to which a single ``take`` is the fastest way to make it."""

_LARGEST_PRODUCT = 1 << 14
"""Entries of all matrices side by side up to which one matrix product beats moving and adding."""


_SMALL_GROUP = 64
"""Order up to which moving one vector by all elements costs less than making its matrix."""

_LARGEST_MIX = 1 << 18
"""Entries of all matrices up to which a weighted sum of matrices is made before it meets the vector."""


class MonomialKernels:
    """Moves flattened samples by the tables of a representation.

    A plain object, made again whenever the tables move to another device: ``nn.Module`` looks its attributes up slowly,
    which shows at batch 1.

    Args:
        shape: Shape of one sample.
        index: Where coordinate ``i`` of ``rho(g) x`` is read from, integers ``[|G|, n]``.
        inverse_index: The same for ``rho(g)^-1``.
        sign: Entries +1 and -1, ``[|G|, n]``; ``None`` for all +1.
        inverse_sign: The same for ``rho(g)^-1``.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        index: Tensor,
        inverse_index: Tensor,
        sign: Tensor | None,
        inverse_sign: Tensor | None,
    ) -> None:
        self.order, self.dim, self.shape = index.shape[0], index.shape[1], shape
        self.index, self.inverse_index, self.sign, self.inverse_sign = index, inverse_index, sign, inverse_sign
        self.flat_index = index.reshape(-1)
        self.rows = tuple(index)  # indexing a tensor costs as much as moving a small sample
        small = sign is None and index.numel() <= _LARGEST_TAKE
        self.take_index = index.view(self.order, *shape) if small else None
        self.summing: Tensor | None = None
        self.averaging: Tensor | None = None
        if self.order * self.dim**2 <= _LARGEST_PRODUCT:
            # The row of g and i holds column i of rho(g)^-1, the transpose of rho(g).
            self.summing = monomial_matrices(index, sign).reshape(-1, self.dim)
            self.averaging = self.summing / self.order
        self.mixing: Tensor | None = None
        if self.order > _SMALL_GROUP and self.order * self.dim**2 <= _LARGEST_MIX:
            self.mixing = monomial_matrices(index, sign).reshape(self.order, -1)

    def views_of_one(self, x: Tensor) -> Tensor:
        """Return the orbit of one sample ``[1, *shape]``, ``[|G|, *shape]``.

        One ``take`` where the orbit is small and has no signs, as for an agent that acts: 4 to 15 % less time than
        ``index_select`` by itself, and none of the reshaping around it. Larger ones by ``index_select`` of a vector, in
        0.7 of the time that the one column of a matrix takes.
        """
        if self.take_index is not None:
            return x.take(self.take_index)
        moved = x.reshape(-1).index_select(0, self.flat_index).view(self.order, self.dim)
        return (moved if self.sign is None else _with_sign(moved, self.sign)).view(-1, *self.shape)

    def views_of_all(self, flat: Tensor) -> Tensor:
        """Return the orbits of samples ``[B, n]``, sample by sample, ``[B |G|, n]`` or a view of it.

        ``gather`` takes 1.2 to 2.0 times as long as ``index_select`` of columns for floats, 0.2 to 0.3 for bytes.
        """
        if flat.is_floating_point() or not eager(flat):
            moved = flat.index_select(1, self.flat_index)
        else:
            moved = flat.gather(1, self.flat_index.expand(flat.shape[0], -1))
        if self.sign is not None:
            moved = _with_sign(moved.view(-1, self.order, self.dim), self.sign)
        return moved

    def pull_back(self, flat: Tensor) -> Tensor:
        """Return ``rho(g)^-1 y[:, g]`` of orbits ``[B, |G|, n]``."""
        if eager(flat):
            moved = flat.gather(2, self.inverse_index.expand(flat.shape[0], -1, -1))
        else:  # the same without the size of the batch, which the older exporter of ONNX may keep
            starts = self.dim * torch.arange(self.order, device=flat.device)
            places = (self.inverse_index + starts.unsqueeze(1)).reshape(-1)
            moved = flat.reshape(-1, self.order * self.dim).index_select(1, places).view(-1, self.order, self.dim)
        return moved if self.inverse_sign is None else _with_sign(moved, self.inverse_sign)

    def transform(self, element: int, flat: Tensor) -> Tensor:
        """Return ``rho(g) x`` of samples ``[B, n]``."""
        moved = flat.index_select(1, self.rows[element])
        return moved if self.sign is None else _with_sign(moved, self.sign[element])

    def transform_each(self, elements: Tensor, flat: Tensor) -> Tensor:
        """Return ``rho(g_b) x_b`` of samples ``[B, n]``."""
        return _moved_by_each(self.index, self.sign, elements, flat)

    def pull_back_each(self, elements: Tensor, flat: Tensor) -> Tensor:
        """Return ``rho(g_b)^-1 y_b`` of samples ``[B, n]``."""
        return _moved_by_each(self.inverse_index, self.inverse_sign, elements, flat)

    def multiplies(self, dtype: torch.dtype) -> bool:
        """Return whether ``average`` and ``weighted_sum`` work for a dtype: few coordinates, as a policy's actions.

        One product with all ``rho(g)^-1`` side by side then takes 0.7 of the time of moving and adding.
        """
        return self.summing is not None and self.summing.dtype == dtype

    def average(self, flat: Tensor) -> Tensor:
        """Return ``1/|G| sum_g rho(g)^-1 y_g`` of orbits side by side, ``[B, |G| n] -> [B, n]``."""
        assert self.averaging is not None
        return flat.mm(self.averaging)

    def weighted_sum(self, flat: Tensor, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g rho(g)^-1 y_g`` of orbits ``[B, |G|, n]`` and weights ``[B, |G|]``, ``[B, n]``."""
        assert self.summing is not None
        return (weights.unsqueeze(2) * flat).reshape(-1, self.order * self.dim).mm(self.summing)

    def mixes(self, dtype: torch.dtype) -> bool:
        """Return whether ``weighted_sum_of_one`` works for a dtype: a large group that moves few coordinates."""
        return self.mixing is not None and self.mixing.dtype == dtype

    def weighted_sum_of_one(self, flat: Tensor, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g rho(g)^-1 y`` of vectors ``[B, n]`` and weights ``[B, |G|]``, ``[B, n]``.

        At order 392 with 5 actions it takes 0.1 to 0.3 of the time of ``weighted_sum``, which moves ``y`` 392 times.
        """
        assert self.mixing is not None
        return torch.bmm(flat.unsqueeze(1), (weights @ self.mixing).view(-1, self.dim, self.dim)).squeeze(1)


def monomial_matrices(index: Tensor, sign: Tensor | None) -> Tensor:
    """Return the matrices of index and sign tables ``[|G|, n]``, ``[|G|, n, n]``, default float dtype."""
    matrices = torch.eye(index.shape[1], device=index.device)[index]
    return matrices if sign is None else matrices * sign[..., None]


def _moved_by_each(index: Tensor, sign: Tensor | None, elements: Tensor, flat: Tensor) -> Tensor:
    moved = flat.gather(1, index.index_select(0, elements))
    return moved if sign is None else _with_sign(moved, sign.index_select(0, elements))


def _with_sign(x: Tensor, sign: Tensor) -> Tensor:
    # Unsigned integers cannot change sign, so integers become floats.
    return x * sign.to(x.dtype) if x.is_floating_point() or x.is_complex() else x * sign
