"""``equirl bench``: what symmetrization costs."""

from equirl.experiments.cost.command import main

__all__ = ["main"]
