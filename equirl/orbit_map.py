"""Symmetrization: any map made equivariant by looking at the whole orbit of its input.

``[B, *S] -> orbit -> [B |G|, *S] -> backbone -> [B, |G|, *out] -> pull back -> aggregate -> [B, *out]``, one backbone
call for the whole orbit (one view per input, if an aggregator needs no more). No other module repeats these steps:
:class:`~equirl.symmetrization.Symmetrized` and the networks of agents hold an :class:`OrbitMap`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from equirl.aggregators import Aggregator, Choice, Views
from equirl.chunking import Chunking
from equirl.eager import eager
from equirl.orbit import Orbit
from equirl.representations import Representation, Tree, map_tensors

__all__ = ["OrbitMap", "check_same_group"]

Backbone: TypeAlias = Callable[[Any], Tensor]
Features: TypeAlias = Callable[[Any], Tensor]
Shown: TypeAlias = Callable[[Orbit], Orbit]

_FEW_OUTPUTS = 64  # so few that |G| copies cost less than looking whether there are ties


class OrbitMap(NamedTuple):
    """Everything about a symmetrization but the backbone: ``M_G(x) = sum_g w(gx) g^-1 M(gx)``.

    It has no parameters but those of the aggregator (λ's). A module that holds its parts as submodules makes one when
    it is called, which costs nothing and never goes stale.

    Attributes:
        input_rep: How the group moves an input.
        output_rep: How the group moves an output.
        aggregator: Gives the weights ``w``.
        chunking: Splits large batches; ``None``: one call.
    """

    input_rep: Representation
    output_rep: Representation
    aggregator: Aggregator
    chunking: Chunking | None = None

    def __call__(
        self, backbone: Backbone, x: Tree, features: Features | None = None, shown: Shown | None = None
    ) -> Tensor:
        """Return ``M_G(x)``, shape ``[B, *output]``.

        An aggregator that needs the inputs alone gets one backbone row per input instead of ``|G|``.

        Args:
            backbone: Maps ``[N, *input]`` (or the features, if ``features`` is given) to ``[N, *output]``, row by row.
            x: Inputs, shape ``[B, *input]``, or a dict of such.
            features: The first part of the network, ``[N, *input] -> [N, *features]``; ``None`` if it is in one part.
            shown: Makes of the orbit what the aggregator sees; by default the orbit itself.

        Raises:
            ValueError: The representations are of different groups, or a shape does not fit.
        """
        check_same_group(self.input_rep, self.output_rep)
        if self.aggregator.uniform:
            return self._mean_of_views(backbone, x, features)
        several = self.aggregator.choose_several(x)
        if several is not None:
            return self._on_several_views(backbone, x, several, features)
        choice = self.aggregator.choose(x)
        if choice is not None:
            if _wants_input_gradient(x) and _may_tie(choice):
                orbit = self.evaluate(backbone, x, features)
                return orbit.weighted_sum(choice.weights.to(orbit.outputs.dtype))
            return self._on_chosen_views(backbone, x, choice, features)
        orbit = self.evaluate(backbone, x, features, scored=self.aggregator.scores_rows)
        output: Tensor = self.aggregator(orbit if shown is None else shown(orbit))
        return output

    def evaluate(self, backbone: Backbone, x: Tree, features: Features | None = None, scored: bool = False) -> Orbit:
        """Return the orbit of ``x`` with the backbone's outputs, in one backbone call (or few, see ``Chunking``).

        Args:
            backbone: As above.
            x: As above.
            features: As above.
            scored: Whether to compute ``orbit.scores``; see ``Aggregator.score_rows``.

        Raises:
            ValueError: As above.
        """
        check_same_group(self.input_rep, self.output_rep)
        input_rep, score_rows, order = self.input_rep, self.aggregator.score_rows, self.input_rep.group.order
        made: list[Tree | None] = []

        def on_views(samples: Tree) -> tuple[Tensor, ...]:
            rows = input_rep.orbit_rows(samples)
            made.append(rows if not made else None)
            seen_and_outputs = _seen_and_outputs(backbone, features, rows)
            return (score_rows(rows, seen_and_outputs[0]), *seen_and_outputs) if scored else seen_and_outputs

        # Kept only if the batch is one piece; of several, the views are made again on first use.
        parts = on_views(x) if self.chunking is None else self.chunking(on_views, x, order)
        outputs = parts[-1].view(-1, order, *parts[-1].shape[1:])
        seen = None if features is None else parts[-2].view(-1, order, *parts[-2].shape[1:])

        def views() -> Tree:
            if len(made) > 1 or made[0] is None:
                return input_rep.orbit(x)
            return map_tensors(made[0], lambda rows: rows.view(-1, order, *rows.shape[1:]))

        return Orbit(views, outputs, self.output_rep, seen, scores=parts[0] if scored else None)

    def weights(
        self, backbone: Backbone, x: Tree, features: Features | None = None, shown: Shown | None = None
    ) -> Tensor:
        """Return the weight of each group element for each input, shape ``[B, |G|]``, rows summing to 1.

        Args:
            backbone: As above.
            x: As above.
            features: As above.
            shown: As above.

        Raises:
            ValueError: As above.
        """
        choice = self.aggregator.choose(x)
        if choice is not None:
            return choice.weights
        orbit = self.evaluate(backbone, x, features)
        return self.aggregator.weights(orbit if shown is None else shown(orbit))

    def _mean_of_views(self, backbone: Backbone, x: Tree, features: Features | None) -> Tensor:
        """Return ``1/|G| sum_g g^-1 M(gx)`` without keeping the orbit."""
        input_rep, output_rep = self.input_rep, self.output_rep

        def on_views(samples: Tree) -> tuple[Tensor, ...]:
            rows = input_rep.orbit_rows(samples)
            return (output_rep.average_rows(backbone(rows if features is None else features(rows))),)

        return (on_views(x) if self.chunking is None else self.chunking(on_views, x, input_rep.group.order))[0]

    def _on_several_views(self, backbone: Backbone, x: Tree, views: Views, features: Features | None) -> Tensor:
        """Return ``sum_g w(gx) g^-1 M(gx)`` over the views with a weight."""
        samples, elements, weights = views

        def on_rows(rows: Tree) -> tuple[Tensor, ...]:
            return _seen_and_outputs(backbone, features, rows)

        rows = self.input_rep.transform_each(elements, map_tensors(x, lambda values: values[samples]))
        outputs = (on_rows(rows) if self.chunking is None else self.chunking(on_rows, rows, 1))[-1]
        pulled_back = cast(Tensor, self.output_rep.pull_back_each(elements, outputs))
        weighted = pulled_back * weights.to(outputs.dtype).view(-1, *(1 for _ in outputs.shape[1:]))
        n_samples = tree_leaves(x)[0].shape[0]
        return weighted.new_zeros(n_samples, *weighted.shape[1:]).index_add(0, samples, weighted)

    def _on_chosen_views(self, backbone: Backbone, x: Tree, choice: Choice, features: Features | None) -> Tensor:
        """Return ``sum_g w(gx) g^-1 M(g* x)``; all views with a weight are equal to ``g* x``."""
        input_rep, output_rep, only = self.input_rep, self.output_rep, choice.only

        def on_rows(rows: Tree) -> tuple[Tensor, ...]:
            return _seen_and_outputs(backbone, features, rows)

        rows = input_rep.transform_each(choice.elements, x) if only is None else input_rep.transform(only, x)
        outputs = (on_rows(rows) if self.chunking is None else self.chunking(on_rows, rows, 1))[-1]
        if only is not None:
            return cast(Tensor, output_rep.transform(input_rep.group.inverse(only), outputs))
        weights = choice.weights.to(outputs.dtype)
        if math.prod(outputs.shape[1:]) > _FEW_OUTPUTS and eager(outputs) and not _may_tie(choice):
            return cast(Tensor, output_rep.pull_back_each(choice.elements, outputs))
        return output_rep.combine_one(outputs, weights)


def check_same_group(input_rep: Representation, output_rep: Representation) -> None:
    """Check that two representations are of one group.

    Raises:
        ValueError: They are of different ones.
    """
    if input_rep.group is not output_rep.group and input_rep.group != output_rep.group:
        raise ValueError(
            f"input_rep represents {input_rep.group} but output_rep represents {output_rep.group}; "
            "symmetrization is defined for one group: build both from the same FiniteGroup"
        )


def _may_tie(choice: Choice) -> bool:
    """Return whether several views of an input are equal; while a graph is recorded, that they might be."""
    return choice.only is None and not (eager(choice.weights) and bool((choice.weights.amax(dim=1) == 1).all()))


def _wants_input_gradient(x: Tree) -> bool:
    return torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tree_leaves(x))


def _seen_and_outputs(backbone: Backbone, features: Features | None, rows: Tree) -> tuple[Tensor, ...]:
    """Return the backbone's outputs for rows, after the features if the network is in two parts."""
    if features is None:
        return (backbone(rows),)
    seen = features(rows)
    return seen, backbone(seen)
