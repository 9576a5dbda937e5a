"""Old name of `equirl.experiments.timing`; to be removed once `vision` imports from there."""
