"""From words to the tokens of a language model: the group's permutation of the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from equirl.models.word_groups import Row, WordGroup
from equirl.representations import MonomialRepresentation
from equirl.tokens import TokenRepresentation

__all__ = ["TokenAction", "token_action"]


@dataclass(frozen=True, eq=False)
class TokenAction:
    """How a word group moves tokens.

    Attributes:
        words: The word group.
        tokens: On numbers of tokens.
        on_scores: On scores of the whole vocabulary.
        moved: Rows of spellings that move, with the space before them.
        left_out: Those that do not, because a word of the row is not a single token.
        pieces: Those that do not, although they are single tokens, because without a space before they are pieces of
            other words as well.
        relaxed: Whether general words stay as they are.
    """

    words: WordGroup
    tokens: TokenRepresentation
    on_scores: MonomialRepresentation
    moved: tuple[Row, ...]
    left_out: tuple[Row, ...]
    pieces: tuple[Row, ...]
    relaxed: bool

    def covers(self, tokenizer: Any, text: str) -> bool:
        """Return whether all words of the group in a text are tokens that move: then the swap of the text's words is
        the action on its tokens.
        """
        if self.words.group.order == 1:
            return True
        tokens = torch.tensor([tokenizer.encode(text)], device=self.tokens.table.device)
        swapped = tokenizer.encode(self.words.swap(1, text, self.relaxed))
        moved: list[int] = self.tokens.transform(1, tokens)[0].tolist()
        return bool(moved == swapped)

    def report(self) -> str:
        """Say which words move and which are left out."""
        lines = [f"word group {self.words.name}: {len(self.moved)} rows of tokens move"]
        if self.left_out:
            rows = ", ".join("/".join(row) for row in self.left_out)
            lines.append(f"left out, as they are more than one token: {len(self.left_out)} rows: {rows}")
        if self.pieces:
            rows = ", ".join("/".join(row) for row in self.pieces)
            lines.append(
                "left out without a space before, as these tokens are pieces of other words too (--pieces moves them): "
                f"{len(self.pieces)} rows: {rows}"
            )
        return "\n".join(lines)


def token_action(
    words: WordGroup, tokenizer: Any, vocabulary: int, relaxed: bool = False, pieces: bool = False
) -> TokenAction:
    """Return how a word group moves a tokenizer's tokens.

    Every spelling (lower case, a capital, capitals; with a space before) whose words are single tokens in all places of
    its row moves. A permutation of tokens cannot move others: the number of tokens would change.

    Args:
        words: The word group.
        tokenizer: A Hugging Face tokenizer.
        vocabulary: Number of scores that the model gives.
        relaxed: Whether general words stay as they are.
        pieces: Whether words without a space before move as well, as at the beginning of a text; these tokens are also
            pieces of other words: swapping `He` of `Heavy` spoils it.

    Raises:
        ValueError: No row consists of single tokens, or the model gives fewer scores than the tokenizer has tokens.
    """
    table = torch.arange(vocabulary).repeat(words.group.order, 1)
    moved, left_out, not_moved = [], [], []
    seen: set[Row] = set()
    unknown = tokenizer.unk_token_id
    for row, _ in words.forms(relaxed).values():
        if row in seen:
            continue
        seen.add(row)
        for space in ("", " "):
            spelled = tuple(space + word for word in row)
            numbers = [tokenizer.encode(word, add_special_tokens=False) for word in spelled]
            if any(len(ids) != 1 or ids[0] == unknown for ids in numbers):
                left_out.append(spelled)
                continue
            if not space and not pieces:
                not_moved.append(spelled)
                continue
            beyond = [number for (number,) in numbers if number >= vocabulary]
            if beyond:
                raise ValueError(
                    f"the tokenizer gives token {beyond[0]}, but the model only scores {vocabulary} tokens; take the "
                    "tokenizer that belongs to the model"
                )
            moved.append(spelled)
            ids = torch.tensor([number for (number,) in numbers])
            for element in range(words.group.order):
                table[element, ids] = ids.roll(-element)
    if not moved:
        raise ValueError(
            f"word group {words.name!r}: no row consists of single tokens of this tokenizer, so that nothing would move"
            + ("; --pieces moves words without a space before them, of which there are some" if not_moved else "")
        )
    tokens = TokenRepresentation(words.group, table)
    return TokenAction(words, tokens, tokens.on_logits(), tuple(moved), tuple(left_out), tuple(not_moved), relaxed)
