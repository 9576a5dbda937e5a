"""λ for images: what weighs the views of an image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator, Weighted, weight_network
from equirl.arguments import whole_number
from equirl.names import unknown_name_message
from equirl.orbit import Orbit

__all__ = ["LAMBDA_NETWORKS", "SHRUNK", "AttentionWeighted", "FeatureWeighted", "make_lambda", "shrink"]

LAMBDA_NETWORKS = ("linear", "two-layer", "attention")

SHRUNK = 16
"""Rows and columns of an image for a λ that reads images and not features."""

_WIDTH = 100


class FeatureWeighted(Weighted):
    """λ-equitune that reads ``orbit.features``, whatever the network's first part has made: they may be replaced."""

    scores_rows: ClassVar[bool] = False


class AttentionWeighted(Aggregator):
    """λ that sees the whole orbit: one layer of self-attention over the views, then a logit each.

    Attention without positions commutes with permutations of the views, so ``λ_g(Gx)`` moves along with the orbit and
    the result stays equivariant.

    Args:
        inputs: Length of a view's features.
        width: Width of the attention.
    """

    def __init__(self, inputs: int, width: int = _WIDTH) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def weights(self, orbit: Orbit) -> Tensor:  # noqa: D102
        views = torch.relu(self.embed(orbit.features.flatten(2)))
        mixed, _ = self.attention(views, views, views, need_weights=False)
        logits: Tensor = self.last(torch.relu(views + mixed)).squeeze(2)
        return logits.softmax(dim=1)


def make_lambda(name: str, inputs: int) -> Aggregator:
    """Return λ-equitune's aggregator.

    Args:
        name: ``"linear"``, ``"two-layer"`` or ``"attention"``.
        inputs: Length of what it reads of a view.

    Raises:
        ValueError: An unknown name, or nothing to read.
    """
    whole_number(inputs, "inputs", 1)
    if name == "attention":
        return AttentionWeighted(inputs)
    if name not in LAMBDA_NETWORKS:
        raise ValueError(unknown_name_message("λ-network", name, LAMBDA_NETWORKS))
    return FeatureWeighted(weight_network(inputs, () if name == "linear" else (_WIDTH,)))


def shrink(images: Tensor) -> Tensor:
    """Return images ``[N, C, S, S]`` in grey and small, as vectors ``[N, 256]``; quarter turns and mirrors commute."""
    small = nn.functional.adaptive_avg_pool2d(images.mean(dim=1, keepdim=True), SHRUNK)
    return small.flatten(1)
