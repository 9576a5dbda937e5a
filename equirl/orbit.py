"""What an aggregator sees of a batch: the orbit of its inputs and what the backbone made of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from equirl.representations import Representation, Tree

__all__ = ["Orbit", "flatten_rows", "flatten_views"]


@dataclass(frozen=True)
class Orbit:
    """The orbit of a batch under the backbone ``M``; entry ``[b, g]`` of everything belongs to ``g x_b``.

    Attributes:
        views: What ``inputs`` is made from: itself, or a function that makes it when somebody asks.
        features: What the first part of the backbone made of ``g x``, shape ``[B, |G|, *features]``; the outputs where
            the backbone is in one part.
        outputs: ``M(g x)``, shape ``[B, |G|, *output]``.
        output_rep: How the group moves an output.
        combined: What is pulled back and combined, where that is more than ``outputs`` (which then are what proxy
            losses are to see of it); by default the outputs.
        scores: What the aggregator made of each row while it was at hand, shape ``[B |G|, ...]``, if it asked to.
    """

    views: Tree | Callable[[], Tree]
    features: Tensor
    outputs: Tensor
    output_rep: Representation
    combined: Tensor | None = None
    scores: Tensor | None = None

    @cached_property
    def inputs(self) -> Tree:
        """The views ``g x``, shape ``[B, |G|, *input]`` (or a dict of such)."""
        return self.views() if callable(self.views) else self.views

    @cached_property
    def pulled_back(self) -> Tensor:
        """``g^-1 M(g x)``, shape ``[B, |G|, *output]``."""
        return cast(Tensor, self.output_rep.pull_back(self._to_combine))

    def mean(self) -> Tensor:
        """Return ``1/|G| sum_g g^-1 M(gx)``, shape ``[B, *output]``."""
        return self.output_rep.combine(self._to_combine, None)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g g^-1 M(gx)``, shape ``[B, *output]``, for weights ``[B, |G|]``."""
        return self.output_rep.combine(self._to_combine, weights)

    @property
    def _to_combine(self) -> Tensor:
        return self.outputs if self.combined is None else self.combined

    @property
    def flat_inputs(self) -> Tensor:
        """The inputs as float vectors, shape ``[B, |G|, n]``; the entries of a dict are concatenated in key order."""
        return flatten_views(self.inputs)


def flatten_views(tree: Tree) -> Tensor:
    """Return views ``[B, |G|, *input]`` as float vectors ``[B, |G|, n]``, a dict's entries one after another."""
    return _flatten(tree, 2)


def flatten_rows(tree: Tree) -> Tensor:
    """Return rows ``[N, *input]`` as float vectors ``[N, n]``, a dict's entries one after another."""
    return _flatten(tree, 1)


def _flatten(tree: Tree, leading: int) -> Tensor:
    if isinstance(tree, Tensor):
        values = tree if tree.is_floating_point() else tree.to(torch.get_default_dtype())
        return values.flatten(leading) if values.ndim > leading else values.unsqueeze(leading)
    return torch.cat([_flatten(tree[key], leading) for key in sorted(tree)], dim=leading)
