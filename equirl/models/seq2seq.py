"""Sequence-to-sequence models with attention: recurrent ones and a small transformer.

All of them give probabilities, and can go through a sequence at once (teacher forcing) or a step at a time.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from equirl.arguments import whole_number
from equirl.models.sequence_base import SequenceModel, mask_after_end
from equirl.models.special_tokens import PAD
from equirl.representations import Tree

__all__ = ["HEADS", "Encoded", "Seq2Seq", "Transformer"]


HEADS = 4
"""Heads of the transformer's attention; its width is a multiple of them."""

_RECURRENT: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
_PLACES = 64


@dataclass(frozen=True)
class Encoded:
    """The encoder's output for a batch of commands.

    Attributes:
        memory: One vector for each word, ``[N, S, H]``.
        padding: Where there is no word, ``[N, S]``.
        state: The decoder's first state; each model has its own form of it.
    """

    memory: Tensor
    padding: Tensor
    state: Any


class EncoderDecoder(SequenceModel):
    """Base of models that read a command once and then answer."""

    @abstractmethod
    def encode(self, commands: Tensor) -> Encoded:
        """Encode commands ``[N, S]``."""

    @abstractmethod
    def decode(self, encoded: Encoded, prefix: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return logits ``[N, T, V]`` of what follows each of the tokens ``[N, T]``, and the state after the last."""

    def forward(self, sequences: Tree) -> Tensor:
        both = cast("dict[str, Tensor]", sequences)
        encoded = self.encode(both["command"])
        logits, _ = self.decode(encoded, both["prefix"], encoded.state)
        return mask_after_end(logits.softmax(dim=-1), both["prefix"] == PAD)

    def start(self, commands: Tensor, length: int) -> Any:
        encoded = self.encode(commands)
        return encoded, encoded.state

    def advance(self, state: Any, token: Tensor) -> tuple[Tensor, Any]:
        encoded, memory = state
        logits, memory = self.decode(encoded, token, memory)
        return logits.softmax(dim=-1), (encoded, memory)


def _check_size(hidden: int, dropout: float) -> None:
    whole_number(hidden, "hidden", 1)
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a share from 0 to below 1; got {dropout}")


class Seq2Seq(EncoderDecoder):
    """A bidirectional recurrent encoder, and a recurrent decoder with dot-product attention (Luong et al. 2015).

    A second recurrent layer follows the attention, so that the decoder can count what attention has read. A
    feed-forward layer cannot, and commands with long repetitions of two kinds then fail.

    Args:
        n_words: Size of the commands' vocabulary, special tokens included.
        n_actions: Size of the actions' vocabulary, special tokens included.
        cell: ``"lstm"``, ``"gru"`` or ``"rnn"``.
        hidden: Width of the embeddings, of each direction of the encoder and of the decoder.
        dropout: Dropout of embeddings and of the decoder's output.

    Raises:
        ValueError: A width below 1, or a dropout that is no share.
    """

    def __init__(
        self,
        n_words: int,
        n_actions: int,
        cell: str = "lstm",
        hidden: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        _check_size(hidden, dropout)
        recurrent = _RECURRENT[cell]
        self.words = nn.Embedding(n_words, hidden, padding_idx=PAD)
        self.actions = nn.Embedding(n_actions, hidden, padding_idx=PAD)
        self.encoder = recurrent(hidden, hidden, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.keys = nn.Linear(2 * hidden, hidden, bias=False)
        self.decoder = recurrent(hidden, hidden, batch_first=True)
        self.reader = recurrent(3 * hidden, hidden, batch_first=True)
        self.output = nn.Linear(hidden, n_actions)
        self.dropout = nn.Dropout(dropout)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make a model like this one."""
        cell = next(name for name, kind in _RECURRENT.items() if type(self.encoder) is kind)
        sizes = {"n_words": self.words.num_embeddings, "n_actions": self.actions.num_embeddings}
        return {**sizes, "cell": cell, "hidden": self.words.embedding_dim, "dropout": self.dropout.p}

    def encode(self, commands: Tensor) -> Encoded:  # noqa: D102
        padding = commands == PAD
        embedded = self.dropout(self.words(commands))
        lengths = (~padding).sum(dim=1).cpu()
        packed = pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        outputs, last = self.encoder(packed)
        memory, _ = pad_packed_sequence(outputs, batch_first=True, total_length=commands.shape[1])
        both = (last[0], last[1]) if isinstance(last, tuple) else (last,)
        states = [torch.tanh(self.bridge(torch.cat([part[0], part[1]], dim=1))).unsqueeze(0) for part in both]
        start = (states[0], states[1]) if isinstance(last, tuple) else states[0]
        return Encoded(memory, padding, (start, None))

    def decode(self, encoded: Encoded, prefix: Tensor, state: Any) -> tuple[Tensor, Any]:  # noqa: D102
        hidden, writing = self.decoder(self.dropout(self.actions(prefix)), state[0])
        scores = hidden @ self.keys(encoded.memory).transpose(1, 2)  # [N, T, S]
        attention = scores.masked_fill(encoded.padding.unsqueeze(1), -torch.inf).softmax(dim=-1)
        read, reading = self.reader(torch.cat([hidden, attention @ encoded.memory], dim=-1), state[1])
        return self.output(self.dropout(read)), (writing, reading)


class Transformer(EncoderDecoder):
    """A small transformer with learned positions (Vaswani et al. 2017), normalised before each layer.

    Args:
        n_words: Size of the commands' vocabulary, special tokens included.
        n_actions: Size of the actions' vocabulary, special tokens included.
        hidden: Width.
        layers: Layers of the encoder, and of the decoder.
        heads: Heads of each attention.
        dropout: Dropout of all layers.

    Raises:
        ValueError: A width that is no multiple of the heads, no layers, or a dropout that is no share.
    """

    def __init__(
        self, n_words: int, n_actions: int, hidden: int = 64, layers: int = 2, heads: int = HEADS, dropout: float = 0.1
    ) -> None:
        super().__init__()
        _check_size(hidden, dropout)
        whole_number(layers, "layers", 1)
        if hidden % whole_number(heads, "heads", 1):
            raise ValueError(f"hidden must be a multiple of the {heads} heads; got {hidden}")
        self.words = nn.Embedding(n_words, hidden, padding_idx=PAD)
        self.actions = nn.Embedding(n_actions, hidden, padding_idx=PAD)
        self.places = nn.Parameter(0.02 * torch.randn(2, _PLACES, hidden))
        settings: dict[str, Any] = {"dropout": dropout, "batch_first": True, "norm_first": True}
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(hidden, heads, 4 * hidden, **settings),
            layers,
            nn.LayerNorm(hidden),
            enable_nested_tensor=False,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(hidden, heads, 4 * hidden, **settings), layers, nn.LayerNorm(hidden)
        )
        self.output = nn.Linear(hidden, n_actions)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that make a model like this one."""
        layer: Any = self.encoder.layers[0]
        sizes = {"n_words": self.words.num_embeddings, "n_actions": self.actions.num_embeddings}
        sizes |= {"hidden": self.words.embedding_dim, "layers": len(self.encoder.layers)}
        return {**sizes, "heads": layer.self_attn.num_heads, "dropout": layer.dropout.p}

    def encode(self, commands: Tensor) -> Encoded:  # noqa: D102
        padding = commands == PAD
        embedded = self.words(commands) + self.places[0, : commands.shape[1]]
        memory = self.encoder(embedded, src_key_padding_mask=padding)
        return Encoded(memory, padding, None)

    def decode(self, encoded: Encoded, prefix: Tensor, state: Any) -> tuple[Tensor, Any]:  # noqa: D102
        so_far = prefix if state is None else torch.cat([state, prefix], dim=1)
        embedded = self.actions(so_far) + self.places[1, : so_far.shape[1]]
        causal = torch.ones(so_far.shape[1], so_far.shape[1], dtype=torch.bool, device=prefix.device).triu(1)
        # Said to be causal, so that torch does not look at the mask to find out.
        decoded = self.decoder(
            embedded,
            encoded.memory,
            tgt_mask=causal,
            tgt_is_causal=True,
            memory_key_padding_mask=encoded.padding,
        )
        return self.output(decoded[:, -prefix.shape[1] :]), so_far
