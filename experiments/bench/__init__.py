"""``equirl bench``: what symmetrization costs, measured side by side."""

from equirl.experiments.bench.command import main

__all__ = ["main"]
