"""A sequence model made equivariant: ``p(g y | g x) = p(y | x)`` at every place, and greedy answers that follow."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from equirl.aggregators import Aggregator, Mean
from equirl.constructions import tensor_product, trivial_representation
from equirl.eager import eager
from equirl.mappings import MappingRepresentation
from equirl.models.saved_sequences import load_sequences, save_sequences
from equirl.models.sequence_base import SequenceModel, SequenceSymmetry, mask_after_end
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap
from equirl.representations import MonomialRepresentation, Tree

__all__ = ["SequenceModel", "SequenceSymmetry", "SymmetrizedSequenceModel", "ViewByView", "mask_after_end"]

_LEAST_PROBABILITY = 1e-30  # of a float32 whose logarithm is to be finite


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
        return OrbitMap(self.input_rep, output_rep, self.aggregator)(self.model, sequences)

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model into a folder without pickle, which ``from_pretrained`` opens again.

        Args:
            save_directory: The folder; it is made.

        Raises:
            ValueError: The folder holds something else, or the backbone or the aggregator is of your own.
        """
        save_sequences(self, Path(save_directory))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> SymmetrizedSequenceModel:
        """Return a model that ``save_pretrained`` wrote, in evaluation mode.

        Args:
            folder: The folder.

        Raises:
            FileNotFoundError: There is no such model in the folder.
            ValueError: Its files are damaged; the message names them.
        """
        model: SymmetrizedSequenceModel = load_sequences(cls, Path(folder))
        return model

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
        return self.aggregator.weights(Orbit(views, answers, output_rep, scores=scores))

    def output_rep(self, length: int, device: torch.device) -> MonomialRepresentation:
        """Return how the group moves probabilities ``[length, V]``; made on first use, and kept.

        Raises:
            RuntimeError: It is to be made while a graph is recorded.
        """
        key = (int(length), device)  # traced lengths are no numbers
        if key not in self._on_scores:
            if not eager(self.symmetry.actions.table):
                raise RuntimeError(
                    f"run the model once on actions of this length, {length}, before you export or trace it: its "
                    "tables are made then"
                )
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
        return OrbitMap(self.input_rep, output_rep, self.aggregator)(self._log_probabilities, sequences).exp()

    def _log_probabilities(self, rows: Tree) -> Tensor:
        probabilities: Tensor = self.model(rows)
        return probabilities.clamp_min(_LEAST_PROBABILITY).log()
