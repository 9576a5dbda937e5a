"""Old name of `equirl.experiments.checks`; to be removed once `vision` imports from there."""

from equirl.experiments.checks import check_device

__all__ = ["check_device"]
