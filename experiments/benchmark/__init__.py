"""``equirl benchmark``: learning studies over agents and seeds."""

from equirl.experiments.benchmark.command import main

__all__ = ["main"]
