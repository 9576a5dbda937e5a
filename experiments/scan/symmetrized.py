"""A sequence model made equivariant: ``p(g y | g x) = p(y | x)`` at every place, and greedy answers that follow."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from equirl import (
    Aggregator,
    MappingRepresentation,
    Mean,
    MonomialRepresentation,
    Orbit,
    Select,
    Weighted,
    tensor_product,
    trivial_representation,
)
from equirl.experiments.scan.models import SequenceModel
from equirl.experiments.scan.proxy_losses import SEQUENCE_PROXY_LOSSES
from equirl.experiments.scan.symmetries import SequenceSymmetry
from equirl.experiments.scan.vocabulary import COMMAND_VOCABULARY, PAD
from equirl.names import unknown_name_message
from equirl.representations import Tree
from equirl.symmetrization import symmetrize

__all__ = [
    "METHODS",
    "CommandScore",
    "CommandWeighted",
    "SymmetrizedSequenceModel",
    "ViewByView",
    "make_sequence_aggregator",
]

METHODS = ("equitune", "equizero", "lambda_equitune")

_LEAST_PROBABILITY = 1e-30  # of a float32 whose logarithm is to be finite


class CommandScore(nn.Module):
    """The λ-network: one logit for each command, from its words and pairs of neighbours, ``[N, S] -> [N, 1]``.

    The last layer starts at zero, so that λ starts constant: training begins as equitune.

    Args:
        width: Of the embedding and of the hidden layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.words = nn.Embedding(len(COMMAND_VOCABULARY), width, padding_idx=PAD)
        self.pairs = nn.Conv1d(width, width, kernel_size=3, padding=1)
        self.last = nn.Linear(width, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, commands: Tensor) -> Tensor:
        """Return the logits of commands ``[N, S]``; padding does not count."""
        hidden = torch.relu(self.pairs(self.words(commands).transpose(1, 2)))
        hidden = hidden.masked_fill((commands == PAD).unsqueeze(1), 0)
        logits: Tensor = self.last(hidden.amax(dim=2))
        return logits


class CommandWeighted(Weighted):
    """λ-equitune with one weight for a whole sequence: λ reads the command alone, not the actions so far."""

    def __init__(self, network: nn.Module | None = None, temperature: float = 1.0) -> None:
        super().__init__(CommandScore() if network is None else network, "inputs", temperature)

    def score_rows(self, inputs: Tree, features: Tensor) -> Tensor:
        """Return ``log λ`` of each row's command, shape ``[N, 1]``."""
        return self._logits(cast("dict[str, Tensor]", inputs)["command"])


def make_sequence_aggregator(method: str, proxy_loss: str = "entropy") -> Aggregator:
    """Return the aggregator of a method for sequences.

    Args:
        method: One of ``METHODS``.
        proxy_loss: Of equizero: ``"entropy"``, ``"confidence"`` or ``"likelihood"``.

    Raises:
        ValueError: Unknown method or proxy loss.
    """
    if method not in METHODS:
        raise ValueError(unknown_name_message("method", method, METHODS))
    if proxy_loss not in SEQUENCE_PROXY_LOSSES:
        raise ValueError(unknown_name_message("proxy loss", proxy_loss, SEQUENCE_PROXY_LOSSES))
    if method == "equizero":
        return Select(SEQUENCE_PROXY_LOSSES[proxy_loss])
    return Mean() if method == "equitune" else CommandWeighted()


class SymmetrizedSequenceModel(SequenceModel):
    """``p_G(y_t | x, y_<t) = sum_g w(gx) g^-1 p(. | gx, g y_<t)``, one weight for a whole sequence.

    Equitune averages the distributions, λ-equitune weighs them by the command, equizero takes the view with the least
    proxy loss: of the given answer when teacher-forced, of each view's own greedy answer when it is to answer.

    Args:
        model: The backbone, used as it is.
        symmetry: How the group moves words and actions.
        aggregator: See ``make_sequence_aggregator``.
    """

    def __init__(self, model: SequenceModel, symmetry: SequenceSymmetry, aggregator: Aggregator) -> None:
        super().__init__()
        self.model = model
        # Copies that follow the network to its device.
        command, actions = copy.deepcopy(symmetry.command), copy.deepcopy(symmetry.actions)
        self.symmetry = SequenceSymmetry(symmetry.name, command, actions)
        self.aggregator = aggregator
        self.input_rep = MappingRepresentation({"command": command, "prefix": actions})
        self._on_scores: dict[tuple[int, torch.device], MonomialRepresentation] = {}

    def forward(self, sequences: Tree) -> Tensor:
        """Return the probabilities of the next action at each place, teacher-forced, ``[B, T, V]``."""
        prefix = cast("dict[str, Tensor]", sequences)["prefix"]
        output_rep = self.output_rep(prefix.shape[1], prefix.device)
        return symmetrize(self.model, sequences, self.input_rep, output_rep, self.aggregator)

    def allowed(self, commands: Tensor) -> Tensor:  # noqa: D102
        return self.symmetry.fixed_actions(commands)

    def start(self, commands: Tensor, length: int) -> Any:  # noqa: D102
        views = cast(Tensor, self.symmetry.command.orbit_rows(commands))
        return self._sequence_weights(views, length), self.model.start(views, length)

    def advance(self, state: Any, token: Tensor) -> tuple[Tensor, Any]:  # noqa: D102
        weights, of_views = state
        outputs, of_views = self.model.advance(of_views, cast(Tensor, self.symmetry.actions.orbit_rows(token)))
        by_view = outputs.view(-1, self.symmetry.group.order, *outputs.shape[1:])
        return self.output_rep(1, token.device).combine(by_view, weights), (weights, of_views)

    def _sequence_weights(self, rows: Tensor, length: int) -> Tensor | None:
        """Return the weights of the views ``[B |G|, S]`` of commands, ``[B, |G|]``; ``None``: all alike."""
        order = self.symmetry.group.order
        if self.aggregator.uniform:
            return None
        if self.aggregator.scores_rows:
            scores = self.aggregator.score_rows({"command": rows}, rows)
            answers = scores.view(-1, order, 1, 1)
        else:
            scores = None
            _, places = self.model.free_run(rows, length)
            answers = places.view(-1, order, *places.shape[1:])
        output_rep = self.output_rep(1, rows.device)
        views = {"command": rows.view(-1, order, rows.shape[1])}
        return self.aggregator.weights(Orbit(views, answers, answers, output_rep, scores=scores))

    def output_rep(self, length: int, device: torch.device) -> MonomialRepresentation:
        """Return how the group moves probabilities ``[length, V]``."""
        key = (length, device)
        if key not in self._on_scores:
            places = trivial_representation(self.symmetry.group, (length,))
            on_logits = self.symmetry.actions.on_logits().cpu()
            self._on_scores[key] = tensor_product(places, on_logits).to(device)
        return self._on_scores[key]


class ViewByView(SymmetrizedSequenceModel):
    """The model to fine-tune: its loss is the mean over the views of each view's own, its answers are equitune's.

    ``p(y_t | x, y_<t) = exp(mean_g log g^-1 p(. | gx, g y_<t))``, which does not sum to 1. By Jensen's inequality its
    loss bounds that of equitune, whose own gradient leaves views alone that find the right action improbable as soon
    as one does not: it weighs each by its share of the mean. It is the straight-through gradient of equizero too, taken
    of log-probabilities, whichever view is picked.

    Args:
        model: The backbone.
        symmetry: How the group moves words and actions.
    """

    def __init__(self, model: SequenceModel, symmetry: SequenceSymmetry) -> None:
        super().__init__(model, symmetry, Mean())

    def forward(self, sequences: Tree) -> Tensor:  # noqa: D102
        prefix = cast("dict[str, Tensor]", sequences)["prefix"]
        output_rep = self.output_rep(prefix.shape[1], prefix.device)
        return symmetrize(self._log_probabilities, sequences, self.input_rep, output_rep, self.aggregator).exp()

    def _log_probabilities(self, rows: Tree) -> Tensor:
        probabilities: Tensor = self.model(rows)
        return probabilities.clamp_min(_LEAST_PROBABILITY).log()
