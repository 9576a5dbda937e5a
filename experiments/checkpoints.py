"""Trainings that can be stopped and watched: their states on disk, and their curves in TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter

from equirl.files import DAMAGED, written_whole

__all__ = ["curves", "load_state", "save_state"]


@contextmanager
def curves(folder: Path) -> Iterator[Callable[[str, int, float], None]]:
    """Give a function that writes a value for TensorBoard: name, step, value."""
    with SummaryWriter(str(folder)) as writer:
        yield lambda name, step, value: writer.add_scalar(name, value, step)


def save_state(path: Path, parts: Mapping[str, Any], generator: torch.Generator, **more: Any) -> None:
    """Write the state of a training, whole or not at all.

    Args:
        path: The file.
        parts: Network, optimizer and the like by name; each has a ``state_dict``, or is ``None``.
        generator: Random numbers of the training; torch's own are written as well.
        **more: Tensors, numbers and plain containers of these.
    """
    saved = {name: part.state_dict() for name, part in parts.items() if part is not None}
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    random = [generator.get_state(), torch.get_rng_state(), *cuda]
    with written_whole(path) as temporary:
        torch.save({"parts": saved, "random": random, "more": more}, temporary)


def load_state(path: Path, parts: Mapping[str, Any], generator: torch.Generator) -> dict[str, Any]:
    """Load what ``save_state`` wrote into the parts and the random numbers, and return the rest.

    Raises:
        ValueError: The file is damaged, or the state of another training.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            if part is not None:
                part.load_state_dict(state["parts"][name])
        ours, torchs, *cuda = state["random"]
        generator.set_state(ours)
        torch.set_rng_state(torchs)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        return dict(state["more"])
    except DAMAGED as error:
        raise ValueError(
            f"{path} is no state of this training ({type(error).__name__}); delete it to begin anew"
        ) from error
