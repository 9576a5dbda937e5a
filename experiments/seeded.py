"""Old name of `equirl.experiments.timing`; to be removed once `vision` imports from there."""

from equirl.experiments.timing import seeded

__all__ = ["seeded"]
