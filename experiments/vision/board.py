"""Curves for TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from equirl.experiments.vision.processes import is_main_process

__all__ = ["board"]


@contextmanager
def board(folder: Path) -> Iterator[Callable[[str, int, float], None]]:
    """Give a function that notes a value: its name, the step, the value; of several processes the main one writes."""
    if not is_main_process():
        yield lambda name, step, value: None
        return
    with SummaryWriter(str(folder)) as writer:
        yield lambda name, step, value: writer.add_scalar(name, value, step)
