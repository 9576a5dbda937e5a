"""How the views of a sequence are weighed: λ by the command, equizero by proxy losses of whole answers.

Proxy losses see the probabilities at each place of an answer, ``[B, |G|, T, V]``, and give one number for each view,
``[B, |G|]``, lower is better. Where an answer is over, the probability of ``PAD`` is 1, and the place does not count.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator, Mean, Select, Weighted
from equirl.models.special_tokens import PAD
from equirl.names import ORBIT_METHODS, unknown_name_message
from equirl.orbit import Orbit
from equirl.proxy_losses import ProxyLoss
from equirl.representations import Tree

__all__ = [
    "SEQUENCE_PROXY_LOSSES",
    "CommandScore",
    "CommandWeighted",
    "make_sequence_aggregator",
    "sequence_confidence",
    "sequence_entropy",
    "sequence_likelihood",
]


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


class CommandScore(nn.Module):
    """The λ-network: one logit for each command, from its words and pairs of neighbours, ``[N, S] -> [N, 1]``.

    The last layer starts at zero, so that λ starts constant: training begins as equitune.

    Args:
        vocabulary: Number of different words, the special ones included.
        width: Width of the embedding and of the hidden layer.
    """

    def __init__(self, vocabulary: int, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=PAD)
        self.pairs = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, commands: Tensor) -> Tensor:
        """Return the logits of commands ``[N, S]``; padding does not count."""
        hidden = torch.relu(self.pairs(self.words(commands).transpose(1, 2)))
        hidden = hidden.masked_fill((commands == PAD).unsqueeze(1), 0)
        logits: Tensor = self.last(hidden.amax(dim=2))
        return logits


class CommandWeighted(Weighted):
    """λ-equitune with one weight for a whole sequence: λ reads the command alone, not the actions so far.

    Args:
        network: Maps commands ``[N, S]`` to one logit each, ``[N, 1]``; ``CommandScore`` is the usual one.
        temperature: Positive divisor of the logits.
    """

    def __init__(self, network: nn.Module, temperature: float = 1.0) -> None:
        super().__init__(network, "inputs", temperature)

    def score_rows(self, inputs: Tree, features: Tensor) -> Tensor:
        """Return ``log λ`` of each row's command, shape ``[N, 1]``."""
        return self._logits(cast("dict[str, Tensor]", inputs)["command"])


def make_sequence_aggregator(method: str, vocabulary: int, proxy_loss: str = "entropy") -> Aggregator:
    """Return the aggregator of a method for sequences.

    Args:
        method: One of ``ORBIT_METHODS``.
        vocabulary: For λ-equitune: number of different words of a command, the special ones included.
        proxy_loss: For equizero: ``"entropy"``, ``"confidence"`` or ``"likelihood"``.

    Raises:
        ValueError: Unknown method or proxy loss.
    """
    if method not in ORBIT_METHODS:
        raise ValueError(unknown_name_message("method", method, ORBIT_METHODS))
    if proxy_loss not in SEQUENCE_PROXY_LOSSES:
        raise ValueError(unknown_name_message("proxy loss", proxy_loss, SEQUENCE_PROXY_LOSSES))
    if method == "equizero":
        return Select(SEQUENCE_PROXY_LOSSES[proxy_loss])
    return Mean() if method == "equitune" else CommandWeighted(CommandScore(vocabulary))
