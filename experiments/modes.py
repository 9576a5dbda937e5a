"""Measuring a network without changing it: its modes and torch's random numbers are afterwards what they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating", "seeded"]


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Put networks into evaluation mode; afterwards each of their modules is in the mode that it was in.

    ``network.train(was_training)`` would not do: it also puts layers into training mode that their owner had frozen.
    """
    modes = [(module, module.training) for network in networks for module in network.modules()]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers; afterwards they go on as if nothing had been drawn here."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
