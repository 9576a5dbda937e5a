"""Models of SCAN by name."""

from __future__ import annotations

from equirl.arguments import whole_number
from equirl.experiments.scan.vocabulary import ACTION_VOCABULARY, COMMAND_VOCABULARY
from equirl.models.seq2seq import EncoderDecoder, Seq2Seq, Transformer
from equirl.names import unknown_name_message

__all__ = ["CELLS", "make_model"]

CELLS = ("lstm", "gru", "rnn", "transformer")


def make_model(cell: str, hidden: int = 64, dropout: float = 0.1) -> EncoderDecoder:
    """Return a model that knows nothing of a symmetry.

    Args:
        cell: ``"lstm"``, ``"gru"``, ``"rnn"`` or ``"transformer"``.
        hidden: Width of the model.
        dropout: Dropout in training.

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
