"""An LSTM that remembers one history per view: its state is in the regular representation of the group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["LSTMState", "OrbitLSTM"]

LSTMState = tuple[Tensor, Tensor]
"""Hidden and cell state, each ``[L, B, n]``, of ``L`` layers."""


class OrbitLSTM(nn.LSTM):
    """An ``nn.LSTM`` that keeps a state for each of ``|G|`` views, and the weights of the views beside them.

    Element ``h`` of the group moves the state of view ``g`` to view ``g h^-1``, as it moves the views themselves. The
    parameters are those of the plain LSTM, with the same names and shapes. ``hidden_size`` is the length of the state
    of one sample, ``|G| h + w``: sb3-contrib makes its buffers from it.

    Args:
        lstm: The plain LSTM, whose parameters it takes over.
        order: ``|G|``.
        n_weights: How many weights ``w`` the state carries, 0 or ``|G|``.

    Attributes:
        view_size: Length ``h`` of the state of one view.
        order: ``|G|``.
        n_weights: How many weights the state carries.
    """

    def __init__(self, lstm: nn.LSTM, order: int, n_weights: int) -> None:
        self.view_size = lstm.hidden_size
        with torch.random.fork_rng(devices=[]):
            super().__init__(
                lstm.input_size,
                lstm.hidden_size,
                num_layers=lstm.num_layers,
                bias=lstm.bias,
                batch_first=lstm.batch_first,
                dropout=lstm.dropout,
                bidirectional=lstm.bidirectional,
                proj_size=lstm.proj_size,
            )
        for name, parameter in lstm.named_parameters():
            setattr(self, name, parameter)
        self.order = order
        self.n_weights = n_weights
        self.hidden_size = order * self.view_size + n_weights

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the LSTM on sequences of single views, ``[T, N, F]`` with states ``[L, N, h]``, as ``nn.LSTM`` does."""
        with self._at_size_of_a_view():
            return super().forward(*args, **kwargs)

    def flatten_parameters(self) -> None:  # noqa: D102
        with self._at_size_of_a_view():
            super().flatten_parameters()

    @contextmanager
    def _at_size_of_a_view(self) -> Iterator[None]:
        reported, self.hidden_size = self.hidden_size, self.view_size
        try:
            yield
        finally:
            self.hidden_size = reported

    def no_memory(self, n_views: int, like: Tensor) -> LSTMState:
        """Return the state ``[L, N, h]`` in which an episode begins."""
        zeros = like.new_zeros(self.num_layers, n_views, self.view_size)
        return zeros, zeros

    def views(self, state: LSTMState, kept: Tensor | None = None) -> LSTMState:
        """Return the states of the views, ``[L, B |G|, h]``, or of some of them, ``[L, K, h]``.

        Args:
            state: The states of the samples, ``[L, B, |G| h + w]``.
            kept: Which views, ``[K]``, counted through all samples.
        """
        ends = self.order * self.view_size
        hidden, cell = (part[..., :ends].reshape(len(part), -1, self.view_size) for part in state)
        return (hidden, cell) if kept is None else (hidden[:, kept], cell[:, kept])

    def weights(self, state: LSTMState) -> Tensor:
        """Return the weights that a state carries, ``[B, w]``; zeros where no episode has begun."""
        return state[0][0, :, self.order * self.view_size :]

    def state(self, views: LSTMState, weights: Tensor | None, kept: Tensor | None = None) -> LSTMState:
        """Return the states of the samples, ``[L, B, |G| h + w]``, from those of their views; see ``views``.

        Args:
            views: The states of the views.
            weights: The weights of the views, ``[B, |G|]``, where the state carries them.
            kept: As for ``views``; the states of the other views are zero.
        """
        hidden, cell = (self._joined(part, weights, kept) for part in views)
        return hidden, cell

    def _joined(self, views: Tensor, weights: Tensor | None, kept: Tensor | None) -> Tensor:
        if kept is not None and weights is not None:
            views = views.new_zeros(len(views), weights.numel(), self.view_size).index_copy(1, kept, views)
        joined = views.reshape(len(views), -1, self.order * self.view_size)
        return joined if weights is None else torch.cat([joined, weights.expand(len(joined), -1, -1)], dim=2)
