"""What all sequence models share: teacher forcing, greedy answers, and how a group moves words and actions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.models.special_tokens import BEGIN, END, PAD
from equirl.representations import Tree
from equirl.tokens import TokenRepresentation

__all__ = ["SequenceModel", "SequenceSymmetry", "mask_after_end"]

_LONGEST_ANSWER = 50


class SequenceModel(nn.Module):
    """Base of all models from commands to actions: what follows given actions, and what it would answer itself."""

    @abstractmethod
    def forward(self, sequences: Tree) -> Tensor:
        """Return the probabilities of the next action at each place, teacher-forced, ``[N, T, V]``.

        Args:
            sequences: ``"command"``, integers ``[N, S]``, and ``"prefix"``, integers ``[N, T]``: ``BEGIN`` and the
                actions so far. Where the prefix is over, the probability of ``PAD`` is 1.
        """

    @abstractmethod
    def start(self, commands: Tensor, length: int) -> Any:
        """Return what ``advance`` needs to answer commands ``[N, S]`` in at most ``length`` actions."""

    @abstractmethod
    def advance(self, state: Any, token: Tensor) -> tuple[Tensor, Any]:
        """Return the probabilities ``[N, 1, V]`` of what follows the last token, ``[N, 1]``, and the new state."""

    def allowed(self, commands: Tensor) -> Tensor | None:
        """Return which actions may be in an answer, ``[N, V]``; ``None``: all. ``PAD`` and ``BEGIN`` never are."""
        return None

    def free_run(self, commands: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return the most probable actions one after another, and the probabilities at each place.

        Args:
            commands: Integers ``[N, S]``.
            length: The longest answer.

        Returns:
            Integers ``[N, T]`` with ``PAD`` after ``END``, and probabilities ``[N, T, V]``; ``T`` is at most
            ``length``.

        Raises:
            ValueError: A length below 1, or no commands.
        """
        whole_number(length, "length", 1)
        if not len(commands):
            raise ValueError("there are no commands to answer; got an empty batch")
        state = self.start(commands, length)
        allowed = self.allowed(commands)
        token = commands.new_full((len(commands), 1), BEGIN)
        over = torch.zeros_like(token, dtype=torch.bool)
        never = torch.tensor([PAD, BEGIN], device=commands.device)
        tokens, places = [], []
        for _ in range(length):
            probabilities, state = self.advance(state, token)
            probabilities = mask_after_end(probabilities, over)
            likely = probabilities.index_fill(2, never, -1)
            if allowed is not None:
                likely = likely.masked_fill(~allowed.unsqueeze(1), -1)
            token = likely.argmax(dim=-1).masked_fill(over, PAD)
            tokens.append(token)
            places.append(probabilities)
            over = over | (token == END)
            if eager(over) and bool(over.all()):
                break
        return torch.cat(tokens, dim=1), torch.cat(places, dim=1)

    @torch.no_grad()
    def greedy(self, commands: Tensor, length: int = _LONGEST_ANSWER) -> Tensor:
        """Return the most probable actions one after another, integers ``[N, T]``."""
        return self.free_run(commands, length)[0]


def mask_after_end(probabilities: Tensor, over: Tensor) -> Tensor:
    """Return probabilities ``[N, T, V]`` with 1 for ``PAD`` at the places ``[N, T]`` where the sequence is over."""
    certain = torch.zeros(probabilities.shape[-1], device=probabilities.device)
    certain[PAD] = 1
    return torch.where(over.unsqueeze(-1), certain, probabilities)


@dataclass(frozen=True, eq=False)
class SequenceSymmetry:
    """How a group moves the words of a command and the actions it stands for: ``meaning(gx) = g meaning(x)``.

    Attributes:
        name: Name of the symmetry.
        command: On numbers of words.
        actions: On numbers of actions.
    """

    name: str
    command: TokenRepresentation
    actions: TokenRepresentation

    @property
    def group(self) -> FiniteGroup:
        """The group."""
        return self.command.group

    def fixed_actions(self, commands: Tensor) -> Tensor:
        """Return which actions are left alone by all elements that leave a command alone, ``[N, V]``.

        What a command stands for is made of these: ``hx = x`` gives ``h meaning(x) = meaning(x)``. An equivariant model
        finds ``v`` and ``hv`` equally probable then, and choosing one of them would break the symmetry.

        Args:
            commands: Integers ``[N, S]``.
        """
        leaves_alone = (self.command.orbit(commands) == commands.unsqueeze(1)).all(dim=2)
        table = self.actions.table
        moves = table != torch.arange(table.shape[1], device=table.device)
        return ~(leaves_alone.unsqueeze(2) & moves).any(dim=1)
