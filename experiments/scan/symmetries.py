"""The symmetries of SCAN: groups that permute words of commands, and with them their actions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equirl import FiniteGroup, TokenRepresentation, cyclic_group, symmetric_group
from equirl.experiments.checks import check_text
from equirl.experiments.scan.grammar import TURNS, VERBS
from equirl.experiments.scan.vocabulary import ACTION_VOCABULARY, COMMAND_VOCABULARY, Vocabulary
from equirl.groups import direct_product
from equirl.models.sequences import SequenceSymmetry
from equirl.names import unknown_name_message

__all__ = ["NAMED_SYMMETRIES", "make_symmetry"]

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
    group, moves = parts[0][0], _moves(parts[0][0])
    for part, _ in parts[1:]:
        others = _moves(part) + moves.shape[1]
        moves = torch.cat([moves.repeat_interleave(part.order, dim=0), others.repeat(group.order, 1)], dim=1)
        group = direct_product(group, part)
    actions = [_ACTION_OF[word] for word in words]
    return SequenceSymmetry(
        name,
        TokenRepresentation(group, _table(moves, words, COMMAND_VOCABULARY)),
        TokenRepresentation(group, _table(moves, actions, ACTION_VOCABULARY)),
    )


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


def _moves(group: FiniteGroup) -> Tensor:
    moves = group.natural_action
    if moves is None:
        raise TypeError(f"{group} acts on no points")
    return moves


def _table(moves: Tensor, words: Sequence[str], vocabulary: Vocabulary) -> Tensor:
    """Return the table ``[|G|, vocabulary]`` that moves word ``i`` to word ``moves[g, i]`` and leaves the others."""
    numbers = torch.tensor([vocabulary.number(word) for word in words])
    table = torch.arange(len(vocabulary)).repeat(len(moves), 1)
    table[:, numbers] = numbers[moves]
    return table
