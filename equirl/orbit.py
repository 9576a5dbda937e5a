"""The orbit of a batch: its transformed inputs and the backbone's outputs for them, as aggregators see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from equirl.representations import Representation, Tree

__all__ = ["Orbit", "equal_rows", "equal_views", "flatten_rows", "flatten_views"]

_FEATURES_AGREE = 1e-4
"""Features of equal views are this near, relative to the largest of the orbit."""


@dataclass(frozen=True)
class Orbit:
    """The orbit of a batch under the backbone ``M``; entry ``[b, g]`` of everything belongs to ``g x_b``.

    Attributes:
        views: The transformed inputs, or a function that computes them on first use; ``None`` where they are not kept.
        outputs: ``M(g x)``, shape ``[B, |G|, *output]``.
        output_rep: How the group moves an output.
        seen: The output of the first part of a backbone in two parts, at ``g x``; ``None`` if it is in one part.
        combined: The tensor to pull back and combine, if it differs from ``outputs``. QR-DQN combines all quantiles,
            but proxy losses see their mean.
        scores: The aggregator's quantity per row (λ's logit, say), shape ``[B |G|, ...]``, if it computes one.
    """

    views: Tree | Callable[[], Tree] | None
    outputs: Tensor
    output_rep: Representation
    seen: Tensor | None = None
    combined: Tensor | None = None
    scores: Tensor | None = None
    _made: dict[str, Any] = field(default_factory=dict, init=False, repr=False)  # cached_property does not compile

    @property
    def inputs(self) -> Tree:
        """The views ``g x``, shape ``[B, |G|, *input]`` (or a dict of such).

        Raises:
            ValueError: They are not kept.
        """
        if self.views is None:
            raise ValueError(
                "of these views the features and outputs alone are kept: a proxy loss of your own is to look at "
                "orbit.features and orbit.outputs here, not at orbit.inputs"
            )
        if not callable(self.views):
            return self.views
        if "inputs" not in self._made:
            self._made["inputs"] = self.views()
        made: Tree = self._made["inputs"]
        return made

    @property
    def features(self) -> Tensor:
        """What λ reads by default: ``seen``, ``[B, |G|, *features]``, or the outputs of a backbone in one part."""
        return self.outputs if self.seen is None else self.seen

    @property
    def pulled_back(self) -> Tensor:
        """``g^-1 M(g x)``, shape ``[B, |G|, *output]``."""
        if "pulled_back" not in self._made:
            self._made["pulled_back"] = self.output_rep.pull_back(self._to_combine)
        made: Tensor = self._made["pulled_back"]
        return made

    def equal_to(self, elements: Tensor) -> Tensor:
        """Return which views are equal to the one of a given element, booleans ``[B, |G|]``.

        Where the views are not kept, their features decide, which differ by round-off.

        Args:
            elements: One element for each sample, integers ``[B]``.
        """
        if self.views is None:
            seen = self.features
            seen = seen.flatten(2) if seen.ndim > 2 else seen.unsqueeze(2)
            apart = (seen - _views_of(seen, elements)).abs().amax(dim=2)
            return apart <= _FEATURES_AGREE * seen.abs().amax(dim=(1, 2)).unsqueeze(1)
        return equal_views(self.inputs, elements)

    def mean(self) -> Tensor:
        """Return ``1/|G| sum_g g^-1 M(gx)``, shape ``[B, *output]``."""
        return self.output_rep.combine(self._to_combine, None)

    def weighted_sum(self, weights: Tensor) -> Tensor:
        """Return ``sum_g w_g g^-1 M(gx)``, shape ``[B, *output]``, for weights ``[B, |G|]``."""
        return self.output_rep.combine(self._to_combine, weights)

    @property
    def _to_combine(self) -> Tensor:
        return self.outputs if self.combined is None else self.combined

    @property
    def flat_inputs(self) -> Tensor:
        """The inputs as float vectors, shape ``[B, |G|, n]``; the entries of a dict are concatenated in key order."""
        return flatten_views(self.inputs)


def flatten_views(tree: Tree) -> Tensor:
    """Return views ``[B, |G|, *input]`` as float vectors ``[B, |G|, n]``, a dict's entries one after another."""
    return _flatten(tree, 2)


def flatten_rows(tree: Tree) -> Tensor:
    """Return rows ``[N, *input]`` as float vectors ``[N, n]``, a dict's entries one after another."""
    return _flatten(tree, 1)


def _flatten(tree: Tree, leading: int) -> Tensor:
    if isinstance(tree, Tensor):
        values = tree if tree.is_floating_point() else tree.to(torch.get_default_dtype())
        return values.flatten(leading) if values.ndim > leading else values.unsqueeze(leading)
    return torch.cat([_flatten(tree[key], leading) for key in sorted(tree)], dim=leading)


def equal_views(views: Tree, elements: Tensor, tolerance: float = 0.0) -> Tensor:
    """Return which views are equal to the one of a given element, booleans ``[B, |G|]``.

    Args:
        views: All views, shape ``[B, |G|, *input]``, or a dict of such.
        elements: One element for each input, integers ``[B]``.
        tolerance: How far two numbers may be apart and still count as equal, relative to the larger.
    """
    if not isinstance(views, Tensor):
        return torch.stack([equal_views(part, elements, tolerance) for part in views.values()]).all(dim=0)
    flat = views.flatten(2) if views.ndim > 2 else views.unsqueeze(2)
    return _near(flat, _views_of(flat, elements), tolerance).all(dim=2)


def _views_of(flat: Tensor, elements: Tensor) -> Tensor:
    """Return the view of one element for each sample, ``[B, |G|, n] -> [B, 1, n]``."""
    return flat.gather(1, elements.view(-1, 1, 1).expand(-1, 1, flat.shape[2]))


def equal_rows(rows: Tree, others: Tree, tolerance: float = 0.0) -> Tensor:
    """Return which rows of two batches are equal, booleans ``[N]``.

    Args:
        rows: Shape ``[N, *input]``, or a dict of such.
        others: The same.
        tolerance: As for ``equal_views``.
    """
    if not (isinstance(rows, Tensor) and isinstance(others, Tensor)):
        pairs = zip(tree_leaves(rows), tree_leaves(others), strict=True)
        return torch.stack([equal_rows(part, other, tolerance) for part, other in pairs]).all(dim=0)
    if torch.equal(rows, others):  # the usual case, in one pass
        return torch.ones(rows.shape[0], dtype=torch.bool, device=rows.device)
    return _near(rows, others, tolerance).reshape(rows.shape[0], -1).all(dim=1)


def _near(numbers: Tensor, others: Tensor, tolerance: float) -> Tensor:
    if tolerance == 0 or not (numbers.is_floating_point() or numbers.is_complex()):
        return numbers == others
    return (numbers - others).abs() <= tolerance * torch.maximum(numbers.abs(), others.abs())
