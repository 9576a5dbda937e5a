"""From words to numbers and back: padded batches of commands and of actions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from equirl.arguments import check_texts
from equirl.experiments.scan.grammar import ACTIONS, WORDS
from equirl.models.special_tokens import END, PAD
from equirl.names import unknown_name_message

__all__ = ["ACTION_VOCABULARY", "COMMAND_VOCABULARY", "Vocabulary"]

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
