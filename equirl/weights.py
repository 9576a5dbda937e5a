"""Weights over an orbit as pure functions, ``[B, |G|] -> [B, |G|]``: what sets the methods apart.

Rows are non-negative and sum to 1. Entry ``[b, g]`` must depend on the view ``g x_b`` alone, up to the normalisation
over the orbit: then ``sum_g w(gx) g^-1 M(gx)`` is equivariant whatever ``M`` is.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from equirl.eager import eager

__all__ = ["pick_least", "share_among", "softmax_weights", "uniform"]

_LAST_PLACES = 4  # eps: losses of different views this near tie, relative to the largest of the orbit
_FEW = 64  # order up to which one row is looked at without tensors
_NEAR = 1e-5  # losses of equal views this near tie: round-off differs between the rows of one batch


def uniform(like: Tensor) -> Tensor:
    """Return ``1/|G|`` for every entry: equitune (Basu et al. 2022, arXiv:2210.06475).

    Args:
        like: Any tensor ``[B, |G|, ...]`` of the dtype and on the device of the weights.
    """
    return like.new_full(like.shape[:2], 1.0 / like.shape[1])


def softmax_weights(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return ``λ(gx) / sum_h λ(hx)`` with ``log λ = logits / temperature``: λ-equitune (arXiv:2305.09900).

    Args:
        logits: Shape ``[B, |G|]``.
        temperature: Positive; small values sharpen the choice towards equizero, large ones flatten it to equitune.
    """
    return (logits if temperature == 1 else logits / temperature).softmax(dim=1)


def pick_least(
    losses: Tensor,
    tolerance: float | None = None,
    equal_to: Callable[[Tensor], Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return ``1/k`` at each of the ``k`` least losses and 0 elsewhere: equizero (arXiv:2305.09900).

    Averaging the ties keeps the choice equivariant: if ``h`` leaves ``x`` fixed, ``g`` and ``gh`` have the same loss
    and different outputs.

    Args:
        losses: Shape ``[B, |G|]``, lower is better; +inf excludes a view.
        tolerance: Losses within this fraction of the largest finite ``|loss|`` of the orbit tie. ``None``: losses tie
            if they agree to a few units in the last place, or nearly and their views are equal.
        equal_to: Tells which views equal those of given elements, ``[B] -> [B, |G|]``; called only if some losses
            nearly agree. Without it, views count as different.
        dtype: Dtype of the weights; by default that of the losses.
    """
    dtype = dtype or losses.dtype
    if tolerance is None and eager(losses) and (picks := _clear_picks(losses, dtype)) is not None:
        return picks
    least = losses.amin(dim=1, keepdim=True)
    # An excluded view, with a loss of +inf, must not widen the tolerance of the others.
    size = torch.where(losses.isfinite(), losses, 0).abs().amax(dim=1, keepdim=True)
    if tolerance is not None:
        return share_among(losses <= least + tolerance * size, dtype)
    tied = losses <= least + _LAST_PLACES * torch.finfo(losses.dtype).eps * size
    if equal_to is not None:
        near = losses <= least + _NEAR * size
        if not (eager(losses) and torch.equal(tied, near)):
            tied = tied | (near & equal_to(losses.argmin(dim=1)))
    return share_among(tied, dtype)


def _clear_picks(losses: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return 1 at the least loss of each row and 0 elsewhere; ``None`` if some row may have a tie.

    The usual case, in 0.2 to 0.5 of the time; rows with infinite or missing numbers count as tied.
    """
    batch, order = losses.shape
    if order == 1 or not losses.is_floating_point():
        return None
    if batch == 1 and order <= _FEW:  # an agent that acts: Python's own numbers are faster than tensors
        values = losses[0].tolist()
        bound = min(values) + _NEAR * max(map(abs, values))
        near = [not value > bound for value in values]
        return losses.new_tensor([near], dtype=dtype) if sum(near) == 1 else None
    least, most = losses.aminmax(dim=1, keepdim=True)
    above = losses > torch.add(least, torch.hypot(least, most), alpha=_NEAR)  # at least the size, in one operation
    # No row has more than |G| - 1 above; where the least or the largest is infinite or NaN, it has none.
    if int(above.count_nonzero()) < batch * (order - 1):
        return None
    return torch.logical_not(above, out=losses.new_empty(losses.shape, dtype=dtype))


def share_among(chosen: Tensor, dtype: torch.dtype) -> Tensor:
    """Return ``1/k`` for each of the ``k`` chosen entries of a row and 0 for the others, booleans ``[B, |G|]``."""
    weights = chosen.to(dtype)
    return weights / weights.sum(dim=1, keepdim=True)
