"""What an aggregator sees of a batch: the orbit of its inputs and what the backbone made of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from equirl.representations import Tree

__all__ = ["Orbit"]


@dataclass(frozen=True)
class Orbit:
    """The orbit of a batch under the backbone ``M``; entry ``[b, g]`` of everything belongs to ``g x_b``.

    Attributes:
        inputs: ``g x``, shape ``[B, |G|, *input]`` (or a dict of such).
        features: What the first part of the backbone made of ``g x``, shape ``[B, |G|, *features]``; the outputs where
            the backbone is in one part.
        outputs: ``M(g x)``, shape ``[B, |G|, *output]``.
        pulled_back: ``g^-1 M(g x)``, shape ``[B, |G|, *output]``.
    """

    inputs: Tree
    features: Tensor
    outputs: Tensor
    pulled_back: Tensor

    @property
    def flat_inputs(self) -> Tensor:
        """The inputs as float vectors, shape ``[B, |G|, n]``; the entries of a dict are concatenated in key order."""
        return _flatten(self.inputs)


def _flatten(tree: Tree) -> Tensor:
    if isinstance(tree, Tensor):
        values = tree if tree.is_floating_point() else tree.to(torch.get_default_dtype())
        return values.flatten(2) if values.ndim > 2 else values.unsqueeze(2)
    return torch.cat([_flatten(tree[key]) for key in sorted(tree)], dim=2)
