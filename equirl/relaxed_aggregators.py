"""Aggregators that are not exact: weights that may prefer an element, and a penalty in the place of averaging.

They give up ``M_G(gx) = g M_G(x)`` where the world does not have it. For a gate between exact and free see
``equirl.relaxation``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from equirl.aggregators import Aggregator, Choice
from equirl.arguments import real_number
from equirl.groups import FiniteGroup
from equirl.orbit import Orbit, flatten_rows
from equirl.relaxation import small_network
from equirl.representations import Tree, map_tensors

__all__ = ["ElementWeights", "SoftPenalty"]


class ElementWeights(Aggregator):
    """λ-equitune whose weights may hang on the element: ``M(x) = sum_g w(g | x) g^-1 M(gx)``, ``w(. | x)`` a softmax.

    With ``λ(gx)`` the view alone counts, and the result is exact; ``w(g | x)`` reads ``x`` and has an output for each
    element, so that it can trust one orientation more than another. It begins at ``1/|G|``, as equitune.

    Args:
        group: The group.
        size: Length of what ``prepare`` gives.
        hidden: Widths of the hidden layers of ``w``.
        prepare: How inputs ``[N, *input]`` become what ``w`` reads, ``[N, size]``.
    """

    def __init__(
        self,
        group: FiniteGroup,
        size: int,
        hidden: Any = (32,),
        prepare: Callable[[Tree], Tensor] = flatten_rows,
    ) -> None:
        super().__init__()
        self.identity = group.identity
        self.network = small_network(size, hidden, group.order)
        self.prepare = prepare

    def weights(self, orbit: Orbit) -> Tensor:
        """Return ``w(g | x)``, shape ``[B, |G|]``."""
        given = map_tensors(orbit.inputs, lambda views: views[:, self.identity])
        return torch.softmax(self.network(self.prepare(given)), dim=1)


class SoftPenalty(Aggregator):
    """The backbone as it is, and a loss for its distance from equivariance: ``β mean |M(x) - M_G(x)|^2``.

    ``M_G`` is the mean over the orbit; the penalty's gradient joins that of whatever loss the output goes into, as a
    term of its own. The baseline of Elhag et al. 2024 (REMUL, arXiv:2410.17878), with a constant weight.

    Args:
        group: The group.
        weight: ``β``.

    Raises:
        TypeError: ``weight`` is no number.
        ValueError: It is negative.
    """

    def __init__(self, group: FiniteGroup, weight: float = 1.0) -> None:
        super().__init__()
        self.identity, self.order = group.identity, group.order
        self.weight = real_number(weight, "weight", least=0)

    def choose(self, x: Tree) -> Choice | None:
        """Return the input as it is, where nothing learns; otherwise the penalty needs the orbit."""
        if torch.is_grad_enabled():
            return None
        some = x if isinstance(x, Tensor) else next(iter(x.values()))
        while not isinstance(some, Tensor):
            some = next(iter(some.values()))
        elements = torch.full((some.shape[0],), self.identity, device=some.device)
        return Choice(elements, nn.functional.one_hot(elements, self.order).to(torch.get_default_dtype()))

    def weights(self, orbit: Orbit) -> Tensor:
        """Return 1 for the identity and 0 for the rest, shape ``[B, |G|]``."""
        weights = torch.zeros(orbit.outputs.shape[:2], dtype=orbit.outputs.dtype, device=orbit.outputs.device)
        weights[:, self.identity] = 1
        return weights

    def forward(self, orbit: Orbit) -> Tensor:
        """Return ``M(x)``, whose gradient is that of the loss with the penalty."""
        plain = orbit.pulled_back[:, self.identity]
        if not plain.requires_grad or any(leaf.requires_grad for leaf in tree_leaves(orbit.inputs)):
            return plain  # of an actor's gradient through its critic the penalty is no part
        output: Tensor = _WithLoss.apply(plain, self.weight * (plain - orbit.mean()).square().mean())  # type: ignore[no-untyped-call]
        return output


class _WithLoss(torch.autograd.Function):
    """The same values; in the backward pass the loss joins with the factor 1."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, loss: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.ones((), dtype=gradient.dtype, device=gradient.device)
