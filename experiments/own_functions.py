"""Old name of `equirl.experiments.optional`; to be removed once `vision` imports from there."""

from equirl.experiments.optional import own_function

__all__ = ["own_function"]
