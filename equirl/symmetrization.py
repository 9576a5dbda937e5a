"""Symmetrized modules: a backbone, two representations and an aggregator; one class per method for the usual cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from equirl.aggregators import Aggregator, Gradient, Mean, Reads, Select, Weighted, weight_network
from equirl.arguments import of_kind
from equirl.canonical import MinimalFrame
from equirl.chunking import Chunking
from equirl.matrices import MatrixRepresentation
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap, check_same_group
from equirl.proxy_losses import ProxyLoss
from equirl.representations import MonomialRepresentation, Representation, Tree

__all__ = ["Canonical", "Equitune", "Equizero", "LambdaEquitune", "Symmetrized"]


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
        check_same_group(input_rep, output_rep)
        self.backbone = of_kind(backbone, nn.Module, "backbone")
        self.features: nn.Module | None
        self.register_module("features", None if features is None else of_kind(features, nn.Module, "features"))
        self.input_rep = input_rep
        self.output_rep = output_rep
        self.aggregator = of_kind(aggregator, Aggregator, "aggregator")  # type: ignore[type-abstract]
        self.chunking = Chunking([self], chunk_rows)

    @property
    def orbit_map(self) -> OrbitMap:
        """Representations, aggregator and chunking, as they are now."""
        parts: Any = self._modules  # nn.Module's own lookup is slow enough to show at batch 1
        return OrbitMap(parts["input_rep"], parts["output_rep"], parts["aggregator"], self.chunking)

    def forward(self, x: Tree) -> Tensor:
        """Return ``M_G(x)``: ``[B, *input] -> [B, *output]``."""
        parts: Any = self._modules
        return self.orbit_map(parts["backbone"], x, parts["features"])

    def evaluate_orbit(self, x: Tree) -> Orbit:
        """Return the orbit of ``x`` under the backbone, before it is aggregated."""
        return self.orbit_map.evaluate(self.backbone, x, self.features)

    def orbit_weights(self, x: Tree) -> Tensor:
        """Return the weight of each group element for each input, shape ``[B, |G|]``, rows summing to 1."""
        return self.orbit_map.weights(self.backbone, x, self.features)


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
    discontinuous unless it has a ``margin`` (:class:`~equirl.canonical.MinimalFrame`).

    Args:
        backbone: As for :class:`Symmetrized`.
        input_rep: As for :class:`Symmetrized`.
        output_rep: As for :class:`Symmetrized`.
        seed: Seed of the projection that picks.
        margin: Makes it continuous, but for ``x = 0``: views so near the best have a part of the weight; 0.05, say, for
            measured inputs.

    Raises:
        TypeError: ``margin`` is no number.
        ValueError: As for :class:`Symmetrized`, or a negative ``margin``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        input_rep: Representation,
        output_rep: Representation,
        *,
        seed: int = 0,
        margin: float = 0.0,
    ) -> None:
        super().__init__(backbone, input_rep, output_rep, MinimalFrame(input_rep, seed, margin=margin))


def _flat_size(representation: Representation) -> int | None:
    linear = isinstance(representation, (MonomialRepresentation, MatrixRepresentation))
    return math.prod(representation.shape) if linear else None
