"""One study in several processes, as ``accelerate launch`` or ``torchrun`` starts them: who goes first, who waits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from equirl.experiments.extras import VISION, needed

__all__ = ["in_several_processes", "is_main_process", "join_processes", "main_process_first", "n_processes"]

_LONGEST_WAIT = timedelta(days=7)


def n_processes() -> int:
    """Return how many processes train one network together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def in_several_processes() -> bool:
    """Return whether this process is one of several that train one network together."""
    return n_processes() > 1


def join_processes(device: str) -> None:
    """Meet the other processes, if there are others; first of all, for the patience of all waiting is set here."""
    if in_several_processes():
        needed("accelerate", VISION).PartialState(cpu=device == "cpu", timeout=_LONGEST_WAIT)


def is_main_process() -> bool:
    """Return whether this is the process that reports, the only one or the first of several."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def main_process_first(device: str) -> Iterator[None]:
    """Let the main process do what follows, then the others, who find it done; alone, do it.

    Args:
        device: Torch device of the study.
    """
    if not in_several_processes():
        yield
        return
    with needed("accelerate", VISION).PartialState(cpu=device == "cpu").main_process_first():
        yield
