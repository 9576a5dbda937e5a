"""Old name of `equirl.experiments.timing`; to be removed once `vision` imports from there."""

from equirl.experiments.timing import peak_of_tensors

__all__ = ["peak_of_tensors"]
