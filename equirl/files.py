"""Files: written whole or not at all, and weights read back, or an error that names the file."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["DAMAGED", "load_weights", "read_saved", "write_text", "written_whole"]

DAMAGED = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    LookupError,
    TypeError,
    ValueError,
    RuntimeError,
    EOFError,
    OSError,
)
"""Errors that torch raises on reading a file that is damaged or holds something else."""


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on leaving without an error it takes the place of ``path``.

    An interrupted write leaves the old file, or none, never half of one. Parent folders are made.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{os.getpid()}-{target.name}")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all; a line break is put at its end."""
    with written_whole(path) as temporary:
        temporary.write_text(f"{text}\n", encoding="utf-8")


def read_saved(path: Path) -> Any:
    """Return what ``torch.save`` wrote; tensors and plain containers only, on the CPU.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or of another kind; delete it to make it "
            "again"
        ) from error


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights from a file into a network.

    Raises:
        ValueError: The file is damaged, or holds the weights of another network.
    """
    weights = read_saved(path)
    try:
        network.load_state_dict(weights)
    except DAMAGED as error:
        raise ValueError(
            f"{path} holds the weights of another network; delete it to make it again ({error})"
        ) from error
