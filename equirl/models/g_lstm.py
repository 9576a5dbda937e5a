"""The G-LSTM: a sequence-to-sequence model whose every layer is equivariant, after Gordon et al. (ICLR 2020).

Features are functions on the group, ``[N, |G| K]``, which an element moves by the regular representation. All linear
maps are group convolutions, ``(f * psi)(g) = sum_h f(h) psi(g^-1 h)``; gates act entry by entry, and attention compares
whole functions, so that its weights are invariant.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from equirl.groups import FiniteGroup
from equirl.models.seq2seq import Encoded, EncoderDecoder
from equirl.models.sequence_base import SequenceSymmetry
from equirl.models.special_tokens import PAD

__all__ = ["GLSTM"]


class GLSTM(EncoderDecoder):
    """An equivariant LSTM encoder and decoder with invariant attention.

    Args:
        symmetry: How the group moves words and actions.
        hidden: Width of the features at each group element.
        dropout: Dropout of embeddings and of the decoder's output.
    """

    def __init__(self, symmetry: SequenceSymmetry, hidden: int = 64, dropout: float = 0.1) -> None:
        super().__init__()
        group = symmetry.group
        # Copies that follow the network to its device.
        command, actions = copy.deepcopy(symmetry.command), copy.deepcopy(symmetry.actions)
        self.representations = nn.ModuleList([command, actions])
        self.symmetry = SequenceSymmetry(symmetry.name, command, actions)
        self.words = _Embedding(symmetry.command.table, group, hidden)
        self.actions = _Embedding(symmetry.actions.table, group, hidden)
        self.forwards, self.backwards = _LSTM(group, hidden), _LSTM(group, hidden)
        self.decoder = _LSTM(group, hidden)
        self.bridge = _Convolution(group, 2, hidden, hidden)
        self.keys = _Convolution(group, 2, hidden, hidden, bias=False)
        self.combine = _Convolution(group, 3, hidden, hidden)
        # An action's score is what its function on the group has in common with the features.
        self.output = _Embedding(symmetry.actions.table, group, hidden)
        self.bias = nn.Parameter(torch.zeros(len(symmetry.actions.table[0])))
        orbits = symmetry.actions.table.amin(dim=0)  # actions that the group turns into each other share a bias
        self.register_buffer("_orbits", orbits, persistent=False)
        self.dropout = nn.Dropout(dropout)

    _orbits: Tensor

    def allowed(self, commands: Tensor) -> Tensor:  # noqa: D102
        return self.symmetry.fixed_actions(commands)

    def encode(self, commands: Tensor) -> Encoded:  # noqa: D102
        padding = commands == PAD
        embedded = self.dropout(self.words(commands))
        lengths = (~padding).sum(dim=1)
        there, state = self.forwards(embedded, lengths)
        back, back_state = self.backwards(_reversed(embedded, lengths), lengths)
        memory = torch.cat([there, _reversed(back, lengths)], dim=-1)
        states = [
            torch.tanh(self.bridge(torch.cat([a[0], b[0]], dim=1))).unsqueeze(0)
            for a, b in zip(state, back_state, strict=True)
        ]
        return Encoded(memory, padding, (states[0], states[1]))

    def decode(self, encoded: Encoded, prefix: Tensor, state: Any) -> tuple[Tensor, Any]:  # noqa: D102
        hidden, state = self.decoder(self.dropout(self.actions(prefix)), None, state)
        scores = hidden @ self.keys(encoded.memory).transpose(1, 2)
        attention = scores.masked_fill(encoded.padding.unsqueeze(1), -torch.inf).softmax(dim=-1)
        combined = torch.tanh(self.combine(torch.cat([hidden, attention @ encoded.memory], dim=-1)))
        logits = self.dropout(combined) @ self.output.table().transpose(0, 1) + self.bias[self._orbits]
        return logits, state


class _Embedding(nn.Module):
    """``e(w)(g) = psi(g^-1 w)``: a function on the group for each word, ``[..., |G| K]``."""

    _moved: Tensor

    def __init__(self, table: Tensor, group: FiniteGroup, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(table.shape[1], width))
        self.register_buffer("_moved", table[group.inverses].T.contiguous(), persistent=False)  # [V, |G|]

    def table(self) -> Tensor:
        """Return the functions of all words, ``[V, |G| K]``."""
        return self.weight[self._moved].flatten(1)

    def forward(self, words: Tensor) -> Tensor:
        return self.table()[words]


class _Convolution(nn.Module):
    """``(f * psi)(g) = sum_h f(h) psi(g^-1 h)`` of ``n`` functions, ``[..., n |G| K] -> [..., |G| K']``."""

    _relative: Tensor

    def __init__(self, group: FiniteGroup, n: int, width: int, out: int, bias: bool = True) -> None:
        super().__init__()
        order = group.order
        bound = (n * order * width) ** -0.5
        self.weight = nn.Parameter(torch.empty(n, order, out, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out).uniform_(-bound, bound)) if bias else None
        self.register_buffer("_relative", group.cayley[group.inverses], persistent=False)  # [g, h]: g^-1 h

    def matrix(self) -> Tensor:
        """Return the matrix ``[|G| K', n |G| K]``."""
        blocks = self.weight[:, self._relative]  # [n, g, h, out, width]
        n, order, _, out, width = blocks.shape
        return blocks.permute(1, 3, 0, 2, 4).reshape(order * out, n * order * width)

    def biases(self) -> Tensor | None:
        """Return the biases ``[|G| K']``, the same at each group element."""
        return None if self.bias is None else self.bias.repeat(len(self._relative))

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.linear(features, self.matrix(), self.biases())


class _LSTM(nn.Module):
    """torch's LSTM over features ``[N, T, |G| K]``, with group convolutions for its eight matrices."""

    def __init__(self, group: FiniteGroup, width: int) -> None:
        super().__init__()
        self._lstm = [nn.LSTM(group.order * width, group.order * width, batch_first=True)]  # its weights are not ours
        self.inputs = nn.ModuleList(_Convolution(group, 1, width, width) for _ in range(4))
        self.hidden = nn.ModuleList(_Convolution(group, 1, width, width) for _ in range(4))

    def forward(self, features: Tensor, lengths: Tensor | None, state: Any = None) -> tuple[Tensor, Any]:
        weights = {
            "weight_ih_l0": _stacked(self.inputs, "matrix"),
            "weight_hh_l0": _stacked(self.hidden, "matrix"),
            "bias_ih_l0": _stacked(self.inputs, "biases"),
            "bias_hh_l0": _stacked(self.hidden, "biases"),
        }
        if lengths is None:
            outputs, state = functional_call(self._lstm[0], weights, (features, state))
            return outputs, state
        packed = pack_padded_sequence(features, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, state = functional_call(self._lstm[0], weights, (packed,))
        return pad_packed_sequence(outputs, batch_first=True, total_length=features.shape[1])[0], state


def _stacked(gates: Sequence[Any] | nn.ModuleList, what: str) -> Tensor:
    return torch.cat([getattr(gate, what)() for gate in gates])


def _reversed(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Return sequences ``[N, T, F]`` with the words of each in reverse, and the padding where it was."""
    places = torch.arange(sequences.shape[1], device=sequences.device)
    source = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    return sequences.gather(1, source.unsqueeze(-1).expand_as(sequences))
