"""Old name of `equirl.experiments.tables`; to be removed once `vision` imports from there."""

from equirl.experiments.tables import read_study

__all__ = ["read_study"]
