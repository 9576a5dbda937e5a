"""Random numbers of a measurement, apart from all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["seeded"]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers; afterwards they go on as if nothing had been drawn here."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
