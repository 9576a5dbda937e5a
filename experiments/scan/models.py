"""Models of SCAN by name, and its symmetries: groups that permute words of commands, and with them their actions."""

from __future__ import annotations

import functools

import torch

from equirl import FiniteGroup, TokenRepresentation, cyclic_group, symmetric_group
from equirl.arguments import check_text, whole_number
from equirl.experiments.scan.batches import ACTION_VOCABULARY, COMMAND_VOCABULARY, Vocabulary
from equirl.experiments.scan.grammar import TURNS, VERBS
from equirl.groups import direct_product
from equirl.models.seq2seq import EncoderDecoder, Seq2Seq, Transformer
from equirl.models.sequences import SequenceSymmetry
from equirl.names import unknown_name_message

__all__ = ["CELLS", "NAMED_SYMMETRIES", "make_model", "make_symmetry"]

CELLS = ("lstm", "gru", "rnn", "transformer")

NAMED_SYMMETRIES = {
    "jump-run": "cyclic:jump,run",
    "verbs-c4": "cyclic:jump,run,walk,look",
    "verbs-s4": "symmetric:jump,run,walk,look",
    "directions": "cyclic:left,right",
    "verbs-c4*directions": "cyclic:jump,run,walk,look*cyclic:left,right",
    "verbs-s4*directions": "symmetric:jump,run,walk,look*cyclic:left,right",
}
"""Short names; ``jump-run`` and ``directions`` are those of Basu et al. (2023)."""

_KINDS = ("cyclic", "symmetric")
_ACTION_OF = VERBS | TURNS


def make_symmetry(name: str) -> SequenceSymmetry:
    """Return the symmetry of a name.

    Args:
        name: One of ``NAMED_SYMMETRIES``, or ``KIND:WORD,WORD,...`` where the kind is ``cyclic`` (each word becomes the
            next) or ``symmetric`` (any order); several joined by ``*`` make their product.

    Raises:
        ValueError: Not of that form, a word that no symmetry can move, or one that is there twice.
    """
    check_text("a symmetry", name)
    parts = [_part(text, name) for text in NAMED_SYMMETRIES.get(name, name).split("*")]
    words = [word for _, part_words in parts for word in part_words]
    for word in words:
        if words.count(word) > 1:
            raise ValueError(f"symmetry {name!r}: {word!r} is there twice, so that this is no permutation of words")
    group = functools.reduce(direct_product, (part for part, _ in parts))
    actions = [(part, [_ACTION_OF[word] for word in part_words]) for part, part_words in parts]
    return SequenceSymmetry(
        name,
        _representation(group, parts, COMMAND_VOCABULARY),
        _representation(group, actions, ACTION_VOCABULARY),
    )


def _representation(
    group: FiniteGroup, parts: list[tuple[FiniteGroup, list[str]]], vocabulary: Vocabulary
) -> TokenRepresentation:
    """Return how a product of groups moves a vocabulary, each part its own words; the others stay."""
    table = torch.arange(len(vocabulary)).repeat(group.order, 1)  # (|G|, vocabulary)
    elements = torch.cartesian_prod(*(torch.arange(part.order) for part, _ in parts)).view(group.order, -1)
    for (part, words), of_part in zip(parts, elements.T, strict=True):
        assert part.natural_action is not None
        numbers = torch.tensor([vocabulary.number(word) for word in words])
        table[:, numbers] = numbers[part.natural_action[of_part]]
    return TokenRepresentation(group, table)


def _part(text: str, name: str) -> tuple[FiniteGroup, list[str]]:
    kind, separator, listed = text.partition(":")
    if not separator:
        known = (*NAMED_SYMMETRIES, *(f"{kind}:WORD,WORD,..." for kind in _KINDS))
        raise ValueError(unknown_name_message("symmetry", name, known))
    if kind not in _KINDS:
        raise ValueError(f"symmetry {name!r}: {unknown_name_message('kind', kind, _KINDS)}")
    words = [word.strip() for word in listed.split(",")]
    for word in words:
        if word not in _ACTION_OF:
            raise ValueError(f"symmetry {name!r}: {unknown_name_message('word', word, _ACTION_OF)}")
    if any(word in VERBS for word in words) and any(word in TURNS for word in words):
        raise ValueError(f"symmetry {name!r}: verbs and directions play different parts; join two groups by '*'")
    if len(words) < 2 or len(words) > 4:
        raise ValueError(f"symmetry {name!r}: {kind} takes two to four words, not {len(words)}")
    return (cyclic_group if kind == "cyclic" else symmetric_group)(len(words)), words


def make_model(cell: str, hidden: int = 64, dropout: float = 0.1) -> EncoderDecoder:
    """Return a model of a certain width that knows nothing of a symmetry; the cell is one of ``CELLS``.

    Raises:
        ValueError: An unknown cell, or a width or a dropout that makes no model.
    """
    if cell not in CELLS:
        raise ValueError(unknown_name_message("cell", cell, CELLS))
    hidden = whole_number(hidden, "hidden", 1)
    sizes = len(COMMAND_VOCABULARY), len(ACTION_VOCABULARY)
    if cell == "transformer":
        return Transformer(*sizes, hidden, dropout=dropout)
    return Seq2Seq(*sizes, cell, hidden, dropout)
