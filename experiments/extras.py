"""Old name of `equirl.experiments.optional`; to be removed once `vision` imports from there."""

from equirl.experiments.optional import NLG, VISION, needed, package_folder

__all__ = ["NLG", "VISION", "needed", "package_folder"]
