"""Old name of `equirl.experiments.optional`; to be removed once `vision` imports from there."""

from equirl.experiments.optional import cache_folder, moved_whole

__all__ = ["cache_folder", "moved_whole"]
