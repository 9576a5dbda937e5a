"""``equirl study``: reinforcement learning with plain and symmetrized agents."""

from equirl.experiments.rl.command import main

__all__ = ["main"]
