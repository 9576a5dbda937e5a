"""How open the gate of a partially equivariant agent is, and how well it knows where the symmetry fails."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from equirl.agents.gate_training import gate_of
from equirl.agents.observations import as_observations
from equirl.agents.orbit_network import orbit_networks
from equirl.relaxation import gate_opening

__all__ = ["gate_logits", "gate_openings", "roc_area"]


def gate_openings(model: Any, observations: Any) -> NDArray[np.float32] | None:
    """Return the gate of the network that acts, ``[N, n]`` in [0, 1]; ``None`` if the agent has no gate.

    Args:
        model: An equivariant agent, or any other.
        observations: States, ``[N, *observation]``, or a dict of such.
    """
    logits = gate_logits(model, observations)
    return None if logits is None else gate_opening(torch.as_tensor(logits)).numpy()


def gate_logits(model: Any, observations: Any) -> NDArray[np.float32] | None:
    """Return the logits of ``gate_openings``, which tell shut gates apart, too."""
    try:
        network = orbit_networks(model)[0]
    except TypeError:
        return None
    if network.relaxation is None:
        return None
    states = as_observations(observations, model.observation_space, model.device)
    with torch.no_grad():
        logits: NDArray[np.float32] = gate_of(network).logits(network._observations(states)).cpu().numpy()
    return logits


def roc_area(scores: ArrayLike, truth: ArrayLike) -> float:
    """Return the area under the ROC curve: how often a true case has the higher score than a false one; ties half.

    NaN where all cases are alike.

    Args:
        scores: Any shape.
        truth: Booleans of the same shape.
    """
    from scipy.stats import rankdata  # a second to import, which only studies need

    scored, true = np.ravel(scores), np.ravel(truth).astype(bool)
    n_true, n_false = int(true.sum()), int((~true).sum())
    if n_true == 0 or n_false == 0:
        return math.nan
    ranks = rankdata(scored)
    return float((ranks[true].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))
