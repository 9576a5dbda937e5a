"""Old name of `equirl.experiments.timing`; to be removed once `vision` imports from there."""

from equirl.experiments.timing import Settings, in_turns

__all__ = ["Settings", "in_turns"]
