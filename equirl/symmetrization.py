"""Symmetrization: any module made equivariant by looking at the whole orbit of its input.

``[B, *S] -> orbit -> [B |G|, *S] -> backbone -> [B, |G|, *out] -> pull back -> aggregate -> [B, *out]``, one backbone
call for the whole orbit (or for one view per input, where that is enough). This is the only place where it is written
down.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from equirl.aggregators import (
    Aggregator,
    Choice,
    Gradient,
    Mean,
    Reads,
    Select,
    Weighted,
    weight_network,
)
from equirl.arguments import of_kind
from equirl.canonical import MinimalFrame
from equirl.chunking import Chunking
from equirl.eager import eager
from equirl.orbit import Orbit
from equirl.proxy_losses import ProxyLoss
from equirl.representations import MonomialRepresentation, Representation, Tree, map_tensors

__all__ = ["Canonical", "Equitune", "Equizero", "LambdaEquitune", "Symmetrized", "evaluate_orbit", "symmetrize"]

_FEW_OUTPUTS = 64  # so few that |G| copies cost less than looking whether there are ties


def evaluate_orbit(
    backbone: Callable[[Tensor], Tensor],
    x: Tree,
    input_rep: Representation,
    output_rep: Representation,
    features: Callable[[Tree], Tensor] | None = None,
    chunking: Chunking | None = None,
    scores: Callable[[Tree, Tensor], Tensor] | None = None,
) -> Orbit:
    """Return the orbit of ``x`` with what the backbone makes of it, in one backbone call (or few, see ``Chunking``).

    Args:
        backbone: Maps ``[N, *input]`` (or the features, where ``features`` is given) to ``[N, *output]``, row by row.
        x: Inputs, shape ``[B, *input]``, or a dict of such.
        input_rep: How the group moves an input.
        output_rep: How the group moves an output.
        features: The first part of the network, ``[N, *input] -> [N, *features]``; ``None`` if it is in one part.
        chunking: Splits large batches; ``None``: one call.
        scores: Makes ``orbit.scores`` of rows and their features; see ``Aggregator.score_rows``.

    Raises:
        ValueError: The representations are of different groups, or a shape does not fit.
    """
    if input_rep.group is not output_rep.group:
        _check_same_group(input_rep, output_rep)
    order = input_rep.group.order

    made: list[Tree | None] = []

    def on_views(samples: Tree) -> tuple[Tensor, ...]:
        rows = input_rep.orbit_rows(samples)
        made.append(rows if not made else None)
        seen_and_outputs = _seen_and_outputs(backbone, features, rows)
        return seen_and_outputs if scores is None else (scores(rows, seen_and_outputs[0]), *seen_and_outputs)

    # Kept only where it is one piece; of several, the views are made again when somebody asks.
    parts = on_views(x) if chunking is None else chunking(on_views, x, order)
    scored = None if scores is None else parts[0]
    outputs = parts[-1].view(-1, order, *parts[-1].shape[1:])
    seen = outputs if features is None else parts[-2].view(-1, order, *parts[-2].shape[1:])

    def views() -> Tree:
        if len(made) > 1 or made[0] is None:
            return input_rep.orbit(x)
        return map_tensors(made[0], lambda rows: rows.view(-1, order, *rows.shape[1:]))

    return Orbit(views, seen, outputs, output_rep, scores=scored)


def symmetrize(
    backbone: Callable[[Tensor], Tensor],
    x: Tree,
    input_rep: Representation,
    output_rep: Representation,
    aggregator: Aggregator,
    features: Callable[[Tree], Tensor] | None = None,
    chunking: Chunking | None = None,
    shown: Callable[[Orbit], Orbit] | None = None,
) -> Tensor:
    """Return ``M_G(x) = sum_g w(gx) g^-1 M(gx)``, shape ``[B, *output]``; ``w`` is the aggregator's.

    An aggregator that needs the inputs alone gets one backbone row per input instead of ``|G|``. For one network used
    once; as a module, see :class:`Symmetrized`. Arguments and errors as for ``evaluate_orbit``.

    Args:
        backbone: See ``evaluate_orbit``.
        x: See ``evaluate_orbit``.
        input_rep: See ``evaluate_orbit``.
        output_rep: See ``evaluate_orbit``.
        aggregator: Gives the weights.
        features: See ``evaluate_orbit``.
        chunking: See ``evaluate_orbit``.
        shown: What the aggregator is shown, made of the orbit; by default the orbit itself.
    """
    if aggregator.uniform:
        return _mean_of_views(backbone, x, input_rep, output_rep, features, chunking)
    choice = aggregator.choose(x)
    if choice is not None:
        if _wants_input_gradient(x) and _may_tie(choice):
            orbit = evaluate_orbit(backbone, x, input_rep, output_rep, features, chunking)
            return orbit.weighted_sum(choice.weights.to(orbit.outputs.dtype))
        return _on_chosen_views(backbone, x, input_rep, output_rep, choice, features, chunking)
    scores = aggregator.score_rows if aggregator.scores_rows else None
    orbit = evaluate_orbit(backbone, x, input_rep, output_rep, features, chunking, scores)
    output: Tensor = aggregator(orbit if shown is None else shown(orbit))
    return output


def _mean_of_views(
    backbone: Callable[[Tensor], Tensor],
    x: Tree,
    input_rep: Representation,
    output_rep: Representation,
    features: Callable[[Tree], Tensor] | None,
    chunking: Chunking | None,
) -> Tensor:
    """Return ``1/|G| sum_g g^-1 M(gx)``; nobody looks at the orbit, so it is not made."""
    if input_rep.group is not output_rep.group:
        _check_same_group(input_rep, output_rep)

    def on_views(samples: Tree) -> tuple[Tensor, ...]:
        rows = input_rep.orbit_rows(samples)
        return (output_rep.average_rows(backbone(rows if features is None else features(rows))),)  # type: ignore[arg-type]

    return (on_views(x) if chunking is None else chunking(on_views, x, input_rep.group.order))[0]


def _on_chosen_views(
    backbone: Callable[[Tensor], Tensor],
    x: Tree,
    input_rep: Representation,
    output_rep: Representation,
    choice: Choice,
    features: Callable[[Tree], Tensor] | None,
    chunking: Chunking | None,
) -> Tensor:
    """Return ``sum_g w(gx) g^-1 M(g* x)``, where all views with weight are equal to ``g* x``."""
    if input_rep.group is not output_rep.group:
        _check_same_group(input_rep, output_rep)

    def on_rows(rows: Tree) -> tuple[Tensor, ...]:
        return _seen_and_outputs(backbone, features, rows)

    only = choice.only
    rows = input_rep.apply_each(choice.elements, x) if only is None else input_rep.apply(only, x)
    outputs = (on_rows(rows) if chunking is None else chunking(on_rows, rows, 1))[-1]
    if only is not None:
        return cast(Tensor, output_rep.apply(input_rep.group.inverse(only), outputs))
    weights = choice.weights.to(outputs.dtype)
    if math.prod(outputs.shape[1:]) > _FEW_OUTPUTS and eager(outputs) and not _may_tie(choice):
        return cast(Tensor, output_rep.pull_back_each(choice.elements, outputs))
    shape = (-1, input_rep.group.order, *outputs.shape[1:])
    return output_rep.combine(outputs.unsqueeze(1).expand(shape), weights)


def _may_tie(choice: Choice) -> bool:
    """Return whether several views of an input are equal; while a graph is recorded, that they might be."""
    return choice.only is None and not (eager(choice.weights) and bool((choice.weights.amax(dim=1) == 1).all()))


def _wants_input_gradient(x: Tree) -> bool:
    return torch.is_grad_enabled() and any(leaf.requires_grad for leaf in tree_leaves(x))


def _seen_and_outputs(
    backbone: Callable[[Tensor], Tensor], features: Callable[[Tree], Tensor] | None, rows: Tree
) -> tuple[Tensor, ...]:
    """Return what the backbone makes of rows, after the features where the network is in two parts."""
    if features is None:
        return (backbone(rows),)  # type: ignore[arg-type]
    seen = features(rows)
    return seen, backbone(seen)


def _check_same_group(input_rep: Representation, output_rep: Representation) -> None:
    if input_rep.group != output_rep.group:
        raise ValueError(
            f"input_rep represents {input_rep.group} but output_rep represents {output_rep.group}; "
            "symmetrization is defined for one group: build both from the same FiniteGroup"
        )


class Symmetrized(nn.Module):
    """A backbone made equivariant, ``M_G(gx) = g M_G(x)``: at the output, or anywhere inside a larger network.

    Time and activation memory of the backbone grow by the factor ``|G|``.

    Args:
        backbone: Any module that maps ``[N, *input]`` to ``[N, *output]`` row by row; it is used as it is. (Batch
            normalisation in training mode mixes rows: the orbit is then normalised together, still equivariant.)
        input_rep: How the group moves an input.
        output_rep: How the group moves an output; ``trivial_representation`` for an invariant output,
            ``image_representation`` for feature maps.
        aggregator: How the orbit of outputs becomes one.
        features: First part of the network where λ should read something in the middle: the whole network is then
            ``backbone(features(x))``.
        chunk_rows: Backbone rows at a time: ``None`` splits large batches on the CPU so that their activations stay in
            the cache (:class:`~equirl.chunking.Chunking`), 0 never does.

    Raises:
        TypeError: An argument of another kind.
        ValueError: The representations are of different groups; on call: a shape does not fit its representation.
    """

    def __init__(
        self,
        backbone: nn.Module,
        input_rep: Representation,
        output_rep: Representation,
        aggregator: Aggregator,
        features: nn.Module | None = None,
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__()
        for what, rep in (("input_rep", input_rep), ("output_rep", output_rep)):
            of_kind(rep, Representation, what)  # type: ignore[type-abstract]
        _check_same_group(input_rep, output_rep)
        self.backbone = of_kind(backbone, nn.Module, "backbone")
        self.features: nn.Module | None
        self.register_module("features", None if features is None else of_kind(features, nn.Module, "features"))
        self.input_rep = input_rep
        self.output_rep = output_rep
        self.aggregator = of_kind(aggregator, Aggregator, "aggregator")  # type: ignore[type-abstract]
        self.chunking = Chunking([self], chunk_rows)

    def forward(self, x: Tree) -> Tensor:
        """Return ``M_G(x)``: ``[B, *input] -> [B, *output]``."""
        parts: Any = self._modules  # nn.Module's own lookup is slow enough to show at batch 1
        return symmetrize(
            parts["backbone"],
            x,
            parts["input_rep"],
            parts["output_rep"],
            parts["aggregator"],
            parts["features"],
            self.chunking,
        )

    def evaluate_orbit(self, x: Tree) -> Orbit:
        """Return the orbit of ``x`` under the backbone, before it is aggregated."""
        return evaluate_orbit(self.backbone, x, self.input_rep, self.output_rep, self.features, self.chunking)

    def orbit_weights(self, x: Tree) -> Tensor:
        """Return the weight of each group element for each input, shape ``[B, |G|]``, rows summing to 1."""
        choice = self.aggregator.choose(x)
        if choice is None:
            return self.aggregator.weights(self.evaluate_orbit(x))
        return choice.weights


class Equitune(Symmetrized):
    """Group averaging: ``M_G(x) = 1/|G| sum_g g^-1 M(gx)`` (Basu et al. 2022, arXiv:2210.06475).

    The projection of ``M`` onto the equivariant maps; for a linear ``M`` it is the orthogonal one.
    Arguments and errors as for :class:`Symmetrized`.
    """

    def __init__(self, backbone: nn.Module, input_rep: Representation, output_rep: Representation) -> None:
        super().__init__(backbone, input_rep, output_rep, Mean())


class LambdaEquitune(Symmetrized):
    """λ-equitune: ``M_G(x) = sum_g λ(gx) g^-1 M(gx) / sum_g λ(gx)`` (Basu et al. 2023, arXiv:2305.09900).

    Args:
        backbone: As for :class:`Symmetrized`.
        input_rep: As for :class:`Symmetrized`.
        output_rep: As for :class:`Symmetrized`.
        network: The λ-network, ``[N, F] -> [N, 1]`` logits of λ; by default ``weight_network(F, hidden)``.
        reads: What λ reads: ``"features"`` (the outputs ``M(gx)`` where ``features`` is not given) or ``"inputs"``.
        hidden: Widths of the default λ-network.
        temperature: Positive divisor of λ's logits.
        features: First part of the network; see :class:`Symmetrized`.
        features_dim: Length of the flattened features, for the default λ-network on ``features``.

    Raises:
        ValueError: The λ-network's input size is needed and not known; or as for :class:`Symmetrized`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        input_rep: Representation,
        output_rep: Representation,
        *,
        network: nn.Module | None = None,
        reads: Reads = "features",
        hidden: Sequence[int] = (64,),
        temperature: float = 1.0,
        features: nn.Module | None = None,
        features_dim: int | None = None,
    ) -> None:
        if network is None:
            if reads == "inputs":
                size = _flat_size(input_rep)
            elif features is not None:
                size = features_dim
            else:
                size = _flat_size(output_rep)
            if size is None:
                raise ValueError("the default λ-network needs its input size: pass features_dim, or your own network")
            network = weight_network(size, hidden)
        super().__init__(backbone, input_rep, output_rep, Weighted(network, reads, temperature), features)


class Equizero(Symmetrized):
    """Equizero: ``M_G(x) = g*^-1 M(g* x)``, ``g* = argmin_g l(M(gx))`` (Basu et al. 2023, arXiv:2305.09900).

    Exactly equivariant also where a group element leaves ``x`` fixed: tied picks are averaged
    (:class:`~equirl.aggregators.Select`).

    Args:
        backbone: As for :class:`Symmetrized`.
        input_rep: As for :class:`Symmetrized`.
        output_rep: As for :class:`Symmetrized`.
        proxy_loss: Name (``max_value``, ``entropy``, ``confidence``) or a callable ``Orbit -> [B, |G|]``.
        gradient: ``"pick"`` (default) or ``"straight_through"``.

    Raises:
        ValueError: Unknown proxy loss or gradient; or as for :class:`Symmetrized`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        input_rep: Representation,
        output_rep: Representation,
        *,
        proxy_loss: str | ProxyLoss = "max_value",
        gradient: Gradient = "pick",
    ) -> None:
        super().__init__(backbone, input_rep, output_rep, Select(proxy_loss, gradient))


class Canonical(Symmetrized):
    """Canonical choice: ``M_G(x) = g*^-1 M(g* x)``, ``g*`` picked by the input alone (Puny et al. 2021).

    One backbone row per input: about the cost of the plain backbone. Exactly equivariant, on symmetric inputs too, and
    discontinuous (:class:`~equirl.canonical.MinimalFrame`): the right tool on grids, a choice elsewhere.

    Args:
        backbone: As for :class:`Symmetrized`.
        input_rep: As for :class:`Symmetrized`.
        output_rep: As for :class:`Symmetrized`.
        seed: Of the rule that picks.

    Raises:
        ValueError: As for :class:`Symmetrized`.
    """

    def __init__(
        self, backbone: nn.Module, input_rep: Representation, output_rep: Representation, *, seed: int = 0
    ) -> None:
        super().__init__(backbone, input_rep, output_rep, MinimalFrame(input_rep, seed))


def _flat_size(representation: Representation) -> int | None:
    return math.prod(representation.shape) if isinstance(representation, MonomialRepresentation) else None
