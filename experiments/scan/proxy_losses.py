"""Proxy losses on sequences: one number for each view's whole answer, ``[B, |G|]``, lower is better.

The orbit's outputs are the probabilities at each place, ``[B, |G|, T, V]``; where an answer is over, that of ``PAD`` is
1 and the place counts for nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equirl import Orbit
from equirl.experiments.scan.vocabulary import PAD
from equirl.proxy_losses import ProxyLoss

__all__ = ["SEQUENCE_PROXY_LOSSES", "sequence_confidence", "sequence_entropy", "sequence_likelihood"]


def sequence_entropy(orbit: Orbit) -> Tensor:
    """Return the entropy in nats of the next action's distribution, mean over the places of an answer."""
    return _mean_over_places(torch.special.entr(orbit.outputs).sum(dim=-1), orbit)


def sequence_confidence(orbit: Orbit) -> Tensor:
    """Return minus the probability of the most probable next action, mean over the places of an answer."""
    return _mean_over_places(-orbit.outputs.amax(dim=-1), orbit)


def sequence_likelihood(orbit: Orbit) -> Tensor:
    """Return minus the log-likelihood in nats of the most probable actions, the sum over the places of an answer."""
    return -(orbit.outputs.amax(dim=-1).clamp_min(1e-30).log() * _counts(orbit)).sum(dim=-1)


SEQUENCE_PROXY_LOSSES: dict[str, ProxyLoss] = {
    "entropy": sequence_entropy,
    "confidence": sequence_confidence,
    "likelihood": sequence_likelihood,
}
"""The proxy losses by name."""


def _counts(orbit: Orbit) -> Tensor:
    return (orbit.outputs[..., PAD] < 1).to(orbit.outputs.dtype)


def _mean_over_places(values: Tensor, orbit: Orbit) -> Tensor:
    counts = _counts(orbit)
    return (values * counts).sum(dim=-1) / counts.sum(dim=-1).clamp_min(1)
