"""A sequence model made equivariant: ``p(g y | g x) = p(y | x)`` at every place, and greedy answers that follow."""

from __future__ import annotations

import copy
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator, Mean
from equirl.arguments import whole_number
from equirl.constructions import tensor_product, trivial_representation
from equirl.eager import eager
from equirl.groups import FiniteGroup
from equirl.mappings import MappingRepresentation
from equirl.models.special_tokens import BEGIN, END, PAD
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap
from equirl.representations import MonomialRepresentation, Tree
from equirl.tokens import TokenRepresentation

__all__ = ["SequenceModel", "SequenceSymmetry", "SymmetrizedSequenceModel", "ViewByView", "mask_after_end"]

_LEAST_PROBABILITY = 1e-30  # of a float32 whose logarithm is to be finite
_LONGEST_ANSWER = 50


class SequenceModel(nn.Module):
    """Base of all models from commands to actions: what follows given actions, and what it would answer itself."""

    @abstractmethod
    def forward(self, sequences: Tree) -> Tensor:
        """Return the probabilities of the next action at each place, teacher-forced, ``[N, T, V]``.

        Args:
            sequences: ``"command"``, integers ``[N, S]``, and ``"prefix"``, integers ``[N, T]``: ``BEGIN`` and the
                actions so far. Where the prefix is over, the probability of ``PAD`` is 1.
        """

    @abstractmethod
    def start(self, commands: Tensor, length: int) -> Any:
        """Return what ``advance`` needs to answer commands ``[N, S]`` in at most ``length`` actions."""

    @abstractmethod
    def advance(self, state: Any, token: Tensor) -> tuple[Tensor, Any]:
        """Return the probabilities ``[N, 1, V]`` of what follows the last token, ``[N, 1]``, and the new state."""

    def allowed(self, commands: Tensor) -> Tensor | None:
        """Return which actions may be in an answer, ``[N, V]``; ``None``: all. ``PAD`` and ``BEGIN`` never are."""
        return None

    def free_run(self, commands: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Return the most probable actions one after another, and the probabilities at each place.

        Args:
            commands: Integers ``[N, S]``.
            length: The longest answer.

        Returns:
            Integers ``[N, T]`` with ``PAD`` after ``END``, and probabilities ``[N, T, V]``; ``T`` is at most
            ``length``.

        Raises:
            ValueError: A length below 1, or no commands.
        """
        whole_number(length, "length", 1)
        if not len(commands):
            raise ValueError("there are no commands to answer; got an empty batch")
        state = self.start(commands, length)
        allowed = self.allowed(commands)
        token = commands.new_full((len(commands), 1), BEGIN)
        over = torch.zeros_like(token, dtype=torch.bool)
        never = torch.tensor([PAD, BEGIN], device=commands.device)
        tokens, places = [], []
        for _ in range(length):
            probabilities, state = self.advance(state, token)
            probabilities = mask_after_end(probabilities, over)
            likely = probabilities.index_fill(2, never, -1)
            if allowed is not None:
                likely = likely.masked_fill(~allowed.unsqueeze(1), -1)
            token = likely.argmax(dim=-1).masked_fill(over, PAD)
            tokens.append(token)
            places.append(probabilities)
            over = over | (token == END)
            if eager(over) and bool(over.all()):
                break
        return torch.cat(tokens, dim=1), torch.cat(places, dim=1)

    @torch.no_grad()
    def greedy(self, commands: Tensor, length: int = _LONGEST_ANSWER) -> Tensor:
        """Return the most probable actions one after another, integers ``[N, T]``."""
        return self.free_run(commands, length)[0]


def mask_after_end(probabilities: Tensor, over: Tensor) -> Tensor:
    """Return probabilities ``[N, T, V]`` with 1 for ``PAD`` at the places ``[N, T]`` where the sequence is over."""
    certain = torch.zeros(probabilities.shape[-1], device=probabilities.device)
    certain[PAD] = 1
    return torch.where(over.unsqueeze(-1), certain, probabilities)


@dataclass(frozen=True, eq=False)
class SequenceSymmetry:
    """How a group moves the words of a command and the actions it stands for: ``meaning(gx) = g meaning(x)``.

    Attributes:
        name: Name of the symmetry.
        command: On numbers of words.
        actions: On numbers of actions.
    """

    name: str
    command: TokenRepresentation
    actions: TokenRepresentation

    @property
    def group(self) -> FiniteGroup:
        """The group."""
        return self.command.group

    def fixed_actions(self, commands: Tensor) -> Tensor:
        """Return which actions are left alone by all elements that leave a command alone, ``[N, V]``.

        What a command stands for is made of these: ``hx = x`` gives ``h meaning(x) = meaning(x)``. An equivariant model
        finds ``v`` and ``hv`` equally probable then, and choosing one of them would break the symmetry.

        Args:
            commands: Integers ``[N, S]``.
        """
        leaves_alone = (self.command.orbit(commands) == commands.unsqueeze(1)).all(dim=2)
        table = self.actions.table
        moves = table != torch.arange(table.shape[1], device=table.device)
        return ~(leaves_alone.unsqueeze(2) & moves).any(dim=1)


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
