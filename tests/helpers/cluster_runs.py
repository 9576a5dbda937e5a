"""Runs that tests give to other processes: in a module that those find, unlike a test's own."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from equirl.experiments.runs import Rows

__all__ = ["fail", "square", "square_or_die"]


def square(job: int) -> Rows:
    """Do a run."""
    return [(job, job * job, os.getpid())]


def square_or_die(folder: Path, job: int) -> Rows:
    """Do a run; the third kills its process when it is done for the first time."""
    if job == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return square(job)


def fail(job: int) -> Rows:
    """Raise."""
    raise ValueError(f"run {job} cannot be done")
