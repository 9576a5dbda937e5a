"""Examples as tensors, and batches of examples of like length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equirl.arguments import whole_number
from equirl.experiments.scan.splits import Example
from equirl.experiments.scan.vocabulary import ACTION_VOCABULARY, COMMAND_VOCABULARY
from equirl.models.special_tokens import BEGIN, END, PAD

__all__ = ["Batch", "Examples"]

_BATCHES_SORTED_TOGETHER = 20


@dataclass(frozen=True)
class Batch:
    """Some examples, padded to the longest of them.

    Attributes:
        command: Integers ``[N, S]``.
        prefix: ``BEGIN`` and the actions, integers ``[N, T]``.
        target: The actions and ``END``, integers ``[N, T]``.
    """

    command: Tensor
    prefix: Tensor
    target: Tensor

    @property
    def sequences(self) -> dict[str, Tensor]:
        """What a sequence model takes."""
        return {"command": self.command, "prefix": self.prefix}


class Examples:
    """Examples as tensors.

    Args:
        examples: The examples.
        device: Where the tensors are.

    Raises:
        ValueError: No examples.
    """

    def __init__(self, examples: Sequence[Example], device: str = "cpu") -> None:
        if not len(examples):
            raise ValueError("there are no examples; give at least one")
        self.command = COMMAND_VOCABULARY.encode(example.command for example in examples).to(device)
        self.target = ACTION_VOCABULARY.encode(example.actions for example in examples).to(device)
        begin = torch.full((len(examples), 1), BEGIN, device=device)
        self.prefix = torch.cat([begin, self.target[:, :-1]], dim=1)
        self.prefix[self.prefix == END] = PAD
        self._lengths = (self.target != PAD).sum(dim=1)

    def __len__(self) -> int:
        return len(self.target)

    def batch(self, rows: Tensor) -> Batch:
        """Return the examples of some rows."""
        command, target = self.command[rows], self.target[rows]
        width, length = int((command != PAD).sum(dim=1).max()), int(self._lengths[rows].max())
        return Batch(command[:, :width], self.prefix[rows, :length], target[:, :length])

    def in_order(self, size: int) -> Iterator[tuple[Tensor, Batch]]:
        """Yield all examples once, the longest answers first, with the rows they stand in."""
        whole_number(size, "size", 1)
        order = self._lengths.argsort(descending=True, stable=True)
        for rows in torch.split(order, size):
            yield rows, self.batch(rows)

    def at_random(self, size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Yield all examples once in batches drawn anew, of like length, so that little of a batch is padding."""
        whole_number(size, "size", 1)
        order = torch.randperm(len(self), generator=generator)
        batches: list[Tensor] = []
        for pool in torch.split(order, size * _BATCHES_SORTED_TOGETHER):
            batches += torch.split(pool[self._lengths.cpu()[pool].argsort()], size)
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield self.batch(batches[number])
