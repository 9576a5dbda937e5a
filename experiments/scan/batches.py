"""Commands and actions as numbers, and batches of examples of like length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equirl.arguments import check_texts, whole_number
from equirl.experiments.scan.grammar import ACTIONS, WORDS
from equirl.experiments.scan.splits import Example
from equirl.models.special_tokens import BEGIN, END, PAD
from equirl.names import unknown_name_message

__all__ = ["ACTION_VOCABULARY", "COMMAND_VOCABULARY", "Batch", "Examples", "Vocabulary"]

_BATCHES_SORTED_TOGETHER = 20
_SPECIAL = ("<pad>", "<end>", "<begin>")


class Vocabulary:
    """Words, each with a number, after the three special tokens ``PAD``, ``END`` and ``BEGIN``.

    Args:
        kind: What its words are called in messages.
        words: The words, in the order of their numbers.

    Raises:
        TypeError: One text in place of the words.
        ValueError: A word that is there twice, or is a special token.
    """

    def __init__(self, kind: str, words: Sequence[str]) -> None:
        check_texts(words, "words")
        self.kind = kind
        self.tokens = (*_SPECIAL, *words)
        self._number = {token: number for number, token in enumerate(self.tokens)}
        for token in self.tokens:
            if self.tokens.count(token) > 1:
                raise ValueError(f"{kind} {token!r} is there twice; each needs a number of its own")

    def __len__(self) -> int:
        return len(self.tokens)

    def number(self, word: str) -> int:
        """Return the number of a word.

        Raises:
            ValueError: Unknown word; the message lists the known ones.
        """
        if word not in self._number:
            raise ValueError(unknown_name_message(self.kind, word, self.tokens[len(_SPECIAL) :]))
        return self._number[word]

    def encode(self, sentences: Iterable[str]) -> Tensor:
        """Return sentences as numbers, each followed by ``END`` and then ``PAD``: integers ``[N, longest + 1]``.

        Raises:
            ValueError: Unknown word.
            TypeError: One text in place of a list of them.
        """
        sentences = sentences if isinstance(sentences, str) else list(sentences)
        check_texts(sentences, "sentences")
        rows = [[*map(self.number, sentence.split()), END] for sentence in sentences]
        width = max(map(len, rows), default=1)
        return torch.tensor([row + [PAD] * (width - len(row)) for row in rows]).view(len(rows), width)

    def decode(self, rows: Tensor) -> list[str]:
        """Return the sentences of numbers ``[N, T]``, each up to its first ``END``."""
        sentences = []
        for row in rows.tolist():
            row = row[: row.index(END)] if END in row else row
            sentences.append(" ".join(self.tokens[number] for number in row if number != PAD))
        return sentences


COMMAND_VOCABULARY = Vocabulary("word", WORDS)
ACTION_VOCABULARY = Vocabulary("action", ACTIONS)


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

    def batch(self, rows: Tensor | list[int]) -> Batch:
        """Return the examples of some rows."""
        command, target = self.command[rows], self.target[rows]
        width, length = int((command != PAD).sum(dim=1).max()), int(self._lengths[rows].max())
        return Batch(command[:, :width], self.prefix[rows, :length], target[:, :length])

    def in_order(self, size: int) -> Iterator[Batch]:
        """Yield all examples once, the longest answers first."""
        whole_number(size, "size", 1)
        yield from map(self.batch, torch.split(self._lengths.argsort(descending=True, stable=True), size))

    def shuffled(self, size: int, generator: torch.Generator) -> list[list[int]]:
        """Return the rows of all examples, in batches of like length drawn anew, so that little of one is padding."""
        whole_number(size, "size", 1)
        batches: list[Tensor] = []
        for pool in torch.split(torch.randperm(len(self), generator=generator), size * _BATCHES_SORTED_TOGETHER):
            batches += torch.split(pool[self._lengths.cpu()[pool].argsort()], size)
        return [batches[number].tolist() for number in torch.randperm(len(batches), generator=generator)]
