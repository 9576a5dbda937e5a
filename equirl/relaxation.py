"""Partial equivariance: an exactly equivariant network, and where a gate opens a correction that is free.

``M(x) = (1 - w(x)) M_G(x) + w(x) M_free(x)`` with a gate ``w`` in [0, 1] that is itself invariant, ``w(gx) = w(x)``
(Chang et al. 2026, arXiv:2512.00915, for ``Q(s, a)``). The free network is small and a correction of the exact one,
``M_free = M_G + R`` (a residual pathway, Finzi et al. 2021, arXiv:2112.01388), and ``R`` begins at zero: training
starts exactly equivariant, and where the gate is shut ``M`` is exactly ``M_G``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from equirl.aggregators import Aggregator, Mean
from equirl.arguments import real_number, whole_number
from equirl.canonical import MinimalFrame
from equirl.orbit import flatten_rows
from equirl.orbit_map import OrbitMap
from equirl.representations import MonomialRepresentation, Representation, Tree

__all__ = ["Gate", "Relaxation", "gate_opening", "priced", "small_network"]

_AVERAGED = 16  # elements, up to which averaging over them costs less than choosing one
_STRETCH = 0.05  # the sigmoid reaches from -.05 to 1.05 and is cut at 0 and 1


class Gate(nn.Module):
    """An invariant gate, ``w(gx) = w(x)``: one number in [0, 1] for each number that it opens.

    A small network, averaged over the orbit, ``logit_G(x) = 1/|G| sum_g g^-1 logit(gx)``; of large groups it sees the
    canonical view alone. Where the output has places that the group exchanges (the actions of a Q-network), the gate's
    places move along: ``w(gs, ga) = w(s, a)``.

    Args:
        input_rep: How the group moves an input.
        places: How it moves the gate's places; without signs.
        size: Length of what ``prepare`` gives.
        hidden: Widths of the hidden layers.
        prepare: How inputs ``[N, *input]`` become what the network reads, ``[N, size]``.
        start: Logit at the beginning.
        leading: As for :class:`~equirl.canonical.MinimalFrame`.
    """

    def __init__(
        self,
        input_rep: Representation,
        places: MonomialRepresentation,
        size: int,
        hidden: Sequence[int] = (32,),
        prepare: Callable[[Tree], Tensor] = flatten_rows,
        start: float = -2.0,
        leading: str | None = None,
    ) -> None:
        super().__init__()
        self.input_rep, self.places = input_rep, places
        averaged = input_rep.group.order <= _AVERAGED
        self.views: Aggregator = Mean() if averaged else MinimalFrame(input_rep, leading=leading)
        self.prepare = prepare
        self.network = small_network(size, hidden, places.dim)
        last: Any = self.network[-1]
        nn.init.constant_(last.bias, start)

    def logits(self, x: Tree) -> Tensor:
        """Return the invariant logits, ``[B, n]``."""
        parts: Any = self._modules
        mapped = OrbitMap(parts["input_rep"], parts["places"], parts["views"])
        return mapped(lambda rows: self.network(self.prepare(rows)).view(-1, *self.places.shape), x)

    def forward(self, x: Tree) -> Tensor:
        """Return the gate, ``[B, n]`` in [0, 1]; see :func:`gate_opening`."""
        return gate_opening(self.logits(x))


def gate_opening(logits: Tensor) -> Tensor:
    """Return ``w = clip(1.1 sigmoid(logit) - .05, 0, 1)``: exactly 0 where the gate is shut.

    The stretched sigmoid of Louizos et al. 2018 (arXiv:1712.01312), without its noise.
    """
    return ((1 + 2 * _STRETCH) * torch.sigmoid(logits) - _STRETCH).clamp(0, 1)


class Relaxation(nn.Module):
    """What is added to an exact output: ``M(x) = (1 - w) M_G(x) + w (M_G(x) + R(x)) = M_G(x) + w(x) R(x)``.

    Args:
        gate: The gate.
        free: Gives ``R``, ``[N, n]``, of what ``gate.prepare`` makes of the inputs as they are.
        spread: How the gate's places ``[B, n]`` lie over the output ``[B, *output]``.
        learned: Whether the gate learns from the loss of ``M``; otherwise something else trains it.
        price: What an open gate costs: the loss gets the term ``price * mean(w)``, by its gradient.

    Raises:
        TypeError: ``price`` is no number.
        ValueError: It is negative.
    """

    def __init__(
        self,
        gate: Gate,
        free: nn.Module,
        spread: Callable[[Tensor], Tensor],
        learned: bool = True,
        price: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate, self.free, self.spread = gate, free, spread
        self.learned = learned
        self.price = real_number(price, "price", least=0)

    def forward(self, x: Tree, exact: Tensor) -> Tensor:
        """Return the partially equivariant output, ``[B, *output]``, of inputs and the exact output."""
        with torch.set_grad_enabled(self.learned and torch.is_grad_enabled()):
            opening = self.gate(x)
        if self.price > 0 and opening.requires_grad and not _asks_for_inputs(x):
            opening = priced(opening, self.price)
        correction: Tensor = self.free(self.gate.prepare(x)).view(exact.shape)
        return exact + self.spread(opening) * correction


def _asks_for_inputs(x: Tree) -> bool:
    """Return whether a gradient with respect to inputs is wanted, an actor's through its critic: nothing is paid."""
    return any(leaf.requires_grad for leaf in tree_leaves(x))


class _Priced(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, price: float) -> Tensor:
        ctx.each = price / values.numel()
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient + ctx.each, None


def priced(values: Tensor, price: float) -> Tensor:
    """Return the same values, whose gradient is that of a loss with ``price * mean(values)`` added.

    So an algorithm whose loss is made elsewhere, all of SB3's, pays for them once in each backward pass.
    """
    priced_values: Tensor = _Priced.apply(values, price)  # type: ignore[no-untyped-call]
    return priced_values


def small_network(size: int, hidden: Sequence[int], n: int) -> nn.Sequential:
    """Return a ReLU network ``[N, size] -> [N, n]`` whose last layer gives zeros at first."""
    if isinstance(hidden, (str, bytes)) or not isinstance(hidden, Sequence):
        raise TypeError(f"hidden lists the widths of hidden layers, such as [32]; got {hidden!r}")
    widths = [whole_number(width, "a width of hidden layers", 1) for width in hidden]
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Linear(size, width), nn.ReLU()]
        size = width
    last = nn.Linear(size, n)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last)
