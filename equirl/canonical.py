"""Canonical choice: the input alone picks the group element, so that the backbone sees one row per input.

A minimal frame (Puny et al. 2021, arXiv:2110.03336): ``M_G(x) = g*^-1 M(g* x)`` with ``g* = argmax_g r(gx)``. It is
λ-equitune with an indicator for λ that reads nothing of the backbone.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache, partial
from typing import cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator, Choice, Views
from equirl.arguments import of_kind, real_number, whole_number
from equirl.eager import eager
from equirl.mappings import MappingRepresentation
from equirl.orbit import Orbit, equal_rows, equal_views, flatten_views
from equirl.representations import MonomialRepresentation, Representation, Tree, map_tensors
from equirl.tokens import TokenRepresentation
from equirl.weights import share_among

__all__ = ["GenericProjection", "MinimalFrame"]


_LARGE_ORDER = 64  # from which tensors beat lists of numbers

_VIEWS_TOGETHER = 4096  # tied views that are compared at a time, so that memory does not grow with the group

_ROUND_OFF = {dtype: 4096 * torch.finfo(dtype).eps for dtype in (torch.float32, torch.float64)}


class MinimalFrame(Aggregator):
    """Canonical choice: ``M_G(x) = g*^-1 M(g* x)``, ``g* = argmax_g r(gx)``, ``r`` a fixed generic projection.

    The backbone sees ``g* x`` alone, one row per input. All elements that attain the maximum have the same ``g* x``
    (they differ by elements that leave ``x`` fixed), and their pulled-back outputs are averaged: exact also on
    symmetric inputs. Where gradients with respect to such inputs are wanted, the backbone sees the whole orbit, since
    tied views are equal and their derivatives are not.

    **It is discontinuous**: where two views have nearly the same ``r`` a small change of ``x`` changes the choice, and
    no choice of one element per input is continuous (Dym et al. 2024, arXiv:2402.16077). On grids and
    other discrete inputs that does not matter; on measured ones the output may jump.

    With a **margin** the choice is a weighted frame instead, and continuous: ``M_G(x) = sum_g w_g(x) g^-1 M(gx)`` with
    ``w_g`` proportional to ``max(0, margin |x| - (max_h r(hx) - r(gx)))``, ``|x|`` the length of ``x``. One view has
    all the weight nearly always; near a boundary two share it, and pass it on as ``x`` crosses. At ``x = 0``, where all
    views are one, there is no direction left, and the output may jump there.

    Args:
        input_rep: How the group moves an input.
        seed: Seed of the projection. Networks that share a seed and a representation choose alike.
        leading: For a dict of inputs, the entry that decides; the others only break its ties. So the choice for a state
            and an action hangs on the state alone, and does not jump while the action moves. ``None``: all decide.
        margin: How near the best a view must come for a weight, relative to ``|x|``; 0: the best alone has one.

    Raises:
        TypeError: ``seed`` is no whole number, or ``margin`` no number.
        ValueError: ``leading`` is no entry of the inputs, or ``margin`` is negative.
    """

    def __init__(
        self, input_rep: Representation, seed: int = 0, leading: str | None = None, margin: float = 0.0
    ) -> None:
        super().__init__()
        self.margin = real_number(margin, "margin of the canonical choice", least=0)
        of_kind(input_rep, Representation, "input_rep")  # type: ignore[type-abstract]
        seed = whole_number(seed, "seed of the canonical choice", 0)
        self.seed = seed
        self.leading = leading
        self.group = input_rep.group
        self.projection = GenericProjection(input_rep, seed)
        self.first: GenericProjection | None = None
        if leading is not None:
            if not isinstance(input_rep, MappingRepresentation) or leading not in input_rep.keys:
                raise ValueError(f"leading names an entry of a dict of inputs; {leading!r} is none of {input_rep}")
            self.first = GenericProjection(input_rep.part(leading), seed)
        self._elements = torch.arange(self.group.order)
        self._certain = torch.eye(self.group.order)

    def choose_several(self, x: Tree) -> Views | None:
        """Return the views within the margin; ``None`` without a margin, or while a graph of any input is recorded."""
        if self.margin == 0:
            return None
        weights = self._margin_weights(x)
        if not eager(weights):
            return None
        samples, elements = weights.nonzero().unbind(1)
        return Views(samples, elements, weights[samples, elements])

    def _margin_weights(self, x: Tree) -> Tensor:
        """Return the weights of a weighted frame, float64 ``[B, |G|]``."""
        decides, given = (self.projection, x) if self.first is None else (self.first, self._leading_entry(x))
        scores, _ = decides(given)
        reach = self.margin * decides.length(given).unsqueeze(1)
        share = torch.relu(reach - (scores.amax(dim=1, keepdim=True) - scores))
        # Where all is zero, all views are equal.
        share = torch.where(reach > 0, share, torch.ones_like(share))
        return share / share.sum(dim=1, keepdim=True)

    def choose(self, x: Tree) -> Choice | None:
        """Return the view with the largest ``r(gx)``; ``None`` with a margin."""
        return self.best(x) if self.margin == 0 else None

    @torch.no_grad()
    def best(self, x: Tree) -> Choice:
        """Return the view with the largest ``r(gx)``, and where several have it the weight ``1/k`` for each."""
        decides, given = (self.projection, x) if self.first is None else (self.first, self._leading_entry(x))
        scores, size = decides(given)
        if eager(scores) and len(scores) == 1 and scores.is_cpu and (only := self._single(scores, size)) is not None:
            return Choice(self._elements[only : only + 1], self._certain[only : only + 1], only=only)
        elements, tied = _largest(scores, size)
        if self.first is not None and not (eager(tied) and int(tied.sum()) == len(tied)):
            scores, size = self.projection(x)  # the other entries break the ties of the leading one
            elements, tied = _largest(scores.masked_fill(~tied, -math.inf), size)
        if eager(scores):
            self._part_unequal(x, elements, tied)
        else:
            tied = self._only_equal(x, elements, tied)
        return Choice(elements, share_among(tied, torch.get_default_dtype()))

    def _leading_entry(self, x: Tree) -> Tree:
        return x if self.leading is None else cast("dict[str, Tree]", x)[self.leading]

    def _single(self, scores: Tensor, size: Tensor) -> int | None:
        """Return the only best element for one input, ``None`` if there are several; for acting, with Python's numbers.

        A handful of them is faster than as many tensors.
        """
        if scores.shape[1] >= _LARGE_ORDER:
            two, places = scores[0].topk(2)
            best, next_best = two.tolist()
            return int(places[0]) if next_best < best - _ROUND_OFF[scores.dtype] * size.item() else None
        values = scores[0].tolist()
        bound = max(values) - _ROUND_OFF[scores.dtype] * size.item()
        tied = [g for g, value in enumerate(values) if not value < bound]
        return tied[0] if len(tied) == 1 else None

    def _part_unequal(self, x: Tree, elements: Tensor, tied: Tensor) -> None:
        """Take views that differ from the chosen one from ``tied``: small numbers drown beside large ones in a sum.

        Only the tied views are made: mostly one or two of an input, where the whole orbit may have hundreds.
        """
        (representation,) = self.projection.held
        rivals = tied.scatter(1, elements.unsqueeze(1), False).nonzero()
        if len(rivals) == 0 or not _moves_exactly(representation) or bool(self._equal(x, elements, rivals).all()):
            return
        candidates = tied.nonzero()
        same = torch.zeros_like(tied)
        same[candidates.unbind(1)] = self._equal(x, elements, candidates)
        # A NaN equals nothing: there all stay tied.
        tied &= same | ~same.any(dim=1, keepdim=True)

    def _only_equal(self, x: Tree, elements: Tensor, tied: Tensor) -> Tensor:
        """Return what ``_part_unequal`` leaves of ``tied``, by comparing all views: a graph must do for any input."""
        (representation,) = self.projection.held
        if not _moves_exactly(representation):
            return tied
        same = tied & equal_views(representation.orbit(x), elements, _ROUND_OFF[torch.float64])
        return tied & (same | ~same.any(dim=1, keepdim=True))

    def _equal(self, x: Tree, elements: Tensor, candidates: Tensor) -> Tensor:
        """Return for each sample and element, integers ``[N, 2]``, whether its view equals the chosen one, ``[N]``."""
        (representation,) = self.projection.held
        equal = torch.empty(len(candidates), dtype=torch.bool, device=candidates.device)
        for start in range(0, len(candidates), _VIEWS_TOGETHER):
            samples, others = candidates[start : start + _VIEWS_TOGETHER].unbind(1)
            given = map_tensors(x, partial(torch.index_select, dim=0, index=samples))
            views = representation.transform_each(others, given)
            chosen = representation.transform_each(elements[samples], given)
            equal[start : start + _VIEWS_TOGETHER] = equal_rows(views, chosen, _ROUND_OFF[torch.float64])
        return equal

    def weights(self, orbit: Orbit) -> Tensor:
        """Return ``1/k`` at each of the ``k`` maxima of ``r(gx)`` and 0 elsewhere, or the weights of the margin."""
        x = _entry(orbit.inputs, self.group.identity)
        choice = self.choose(x)
        weights = self._margin_weights(x) if choice is None else choice.weights
        return weights.to(orbit.outputs.dtype)

    def extra_repr(self) -> str:  # noqa: D102
        return f"seed={self.seed}" + (f", margin={self.margin:g}" if self.margin else "")


class GenericProjection(nn.Module):
    """``r(gx) = <w, gx>`` for all ``g`` at once, with a fixed generic ``w``: different views get different numbers.

    Permuted and signed coordinates take one product with the matrix of all ``rho(g)^T w``; nothing is moved. Tokens
    stand for generic numbers; the entries of a dict are summed. In float64, so that no two views meet by round-off.

    Args:
        representation: How the group moves ``x``.
        seed: Seed of ``w``, whose numbers are the same on every machine.
    """

    def __init__(self, representation: Representation, seed: int = 0) -> None:
        super().__init__()
        # In a tuple, so that it is no submodule: the network that this belongs to has registered it.
        self.held = (representation,)
        self._seed = seed
        self._parts = nn.ModuleList()
        weights = torch.empty(0, 0)
        if isinstance(representation, MappingRepresentation):
            keys = enumerate(representation.keys)  # the first as if it were alone
            self._parts.extend(GenericProjection(representation.part(key), seed + 7919 * n) for n, key in keys)
        elif isinstance(representation, MonomialRepresentation):
            index, sign = representation.index.cpu(), representation.sign.cpu().double()
            generic = _projection_weights(representation.shape, seed)
            weights = torch.zeros_like(sign).scatter_(1, index, sign * generic)
            weights = torch.cat([weights, torch.ones(1, representation.dim, dtype=torch.float64)])
        elif isinstance(representation, TokenRepresentation):
            weights = _generic_numbers(representation.table.shape[1], seed)[representation.table.cpu()]
        # No buffers: half() and float() would take the precision that tells views apart.
        self._weights: dict[torch.device, tuple[Tensor, Tensor]] = {}
        self._weights[torch.device("cpu")] = _without_last(weights.T.contiguous())

    def forward(self, x: Tree) -> tuple[Tensor, Tensor]:
        """Return ``r(gx)``, float64 ``[B, |G|]``, and the size of what was summed for it, ``[B]``.

        Raises:
            ValueError: ``x`` has another shape.
        """
        (representation,) = self.held
        if isinstance(representation, MappingRepresentation):
            entries = representation.entries(x)
            both = [part(entry) for part, entry in zip(self._parts, entries, strict=True)]
            return torch.stack([scores for scores, _ in both]).sum(0), torch.stack([size for _, size in both]).sum(0)
        if isinstance(representation, MonomialRepresentation):
            flat = representation.flatten(x)
            weights, and_size = self._weights_on(flat.device)
            if flat.dtype == torch.uint8:  # nothing is negative: the sum is the size, and one more column gives it
                with_size = flat.to(weights.dtype) @ and_size
                return with_size[:, :-1], with_size[:, -1]
            flat = _as_real(flat).to(weights.dtype)
            return flat @ weights, torch.linalg.vector_norm(flat, 1, dim=1)
        if isinstance(representation, TokenRepresentation):
            tokens = representation.check(x)
            tokens = tokens.flatten(1) if tokens.ndim > 1 else tokens.unsqueeze(1)
            _, weights = self._weights_on(tokens.device)
            places = _generic_numbers(tokens.shape[1], self._seed + 1, tokens).to(weights)
            return places @ weights[tokens], places.abs().sum().expand(tokens.shape[0])
        views = flatten_views(representation.orbit(x))
        weights = _generic_numbers(views.shape[2], self._seed, views).to(views.device, _precision(views.device))
        views = _as_real(views).to(weights.dtype)
        return views @ weights, views.abs().sum(dim=(1, 2))

    def length(self, x: Tree) -> Tensor:
        """Return the length of inputs, float64 ``[B]``: the same for all views."""
        (representation,) = self.held
        if isinstance(representation, MappingRepresentation):
            entries = zip(self._parts, representation.entries(x), strict=True)
            each = [cast("GenericProjection", part).length(entry) for part, entry in entries]
            return _norm(torch.stack(each), 0)
        if isinstance(representation, MonomialRepresentation):
            flat = representation.flatten(x)
            return _norm(_as_real(flat).to(_precision(flat.device)), 1)
        if isinstance(representation, TokenRepresentation):
            size: Tensor = self(x)[1]
            return size.sqrt()
        views = _as_real(flatten_views(representation.orbit(x)))
        return _norm(views.to(_precision(views.device)).flatten(1), 1) / math.sqrt(views.shape[1])

    def _weights_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the numbers without and with the last column."""
        found = self._weights.get(device)
        if found is None:
            found = _without_last(self._weights[torch.device("cpu")][1].to(device, _precision(device)))
            if eager(found[1]):  # a tensor of a graph is of no use after it
                self._weights[device] = found
        return found


def _largest(scores: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return an element with the largest score of each row, ``[B]``, and which elements have it, ``[B, |G|]``.

    Views are permutations of the same numbers: equal ones differ by the round-off of a sum, nothing else does.
    """
    best, elements = scores.max(dim=1)
    # "Not below" rather than "at least": where a score is NaN all views tie, and the output is NaN.
    return elements, ~(scores < torch.sub(best, size, alpha=_ROUND_OFF[scores.dtype]).unsqueeze(1))


def _norm(values: Tensor, axis: int) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(values, dim=axis)
    return norm


def _moves_exactly(representation: Representation) -> bool:
    """Return whether views hold the same numbers, so that equal ones are equal to the last bit."""
    if isinstance(representation, MappingRepresentation):
        return all(_moves_exactly(representation.part(key)) for key in representation.keys)
    return isinstance(representation, (MonomialRepresentation, TokenRepresentation))


def _projection_weights(shape: tuple[int, ...], seed: int) -> Tensor:
    """Return ``w``, float64 ``[n]``: generic numbers; over images ``[C, H, W]`` ramps with a generic slope per channel.

    With a ramp, what is moved a little is projected to nearly the same number, so that neighbouring states are mostly
    seen in the same orientation; with independent numbers a step of the agent turned the world as often as not, and
    learning took two to four times as long. A little of the generic numbers remains, to tell all views apart.
    """
    generic = _generic_numbers(math.prod(shape), seed)
    if len(shape) != 3 or shape[1] * shape[2] < 4:
        return generic
    down, right = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in shape[1:])
    ramp = (down[:, None] + 0.4 * right).flatten()  # the slopes differ: no mirror leaves it as it is
    slopes = 1 + 0.5 * _generic_numbers(shape[0], seed + 1)
    return (slopes[:, None] * ramp).flatten() / 2.1 + 1e-3 * generic


def _as_real(x: Tensor) -> Tensor:
    """Return real numbers that tell complex ones apart: the real part plus a generic multiple of the imaginary one."""
    return x.real + 0.7548776662466927 * x.imag if x.is_complex() else x


def _precision(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def _generic_numbers(n: int, seed: int, given: Tensor | None = None) -> Tensor:
    """Return ``n`` numbers in [-1, 1), float64; a longer list begins as the shorter one does.

    Args:
        n: How many.
        seed: Seed.
        given: The input they are for; while a graph of it is recorded, nothing is kept for later.
    """
    return _kept_numbers(n, seed) if given is None or eager(given) else _made_numbers(n, seed)


def _made_numbers(n: int, seed: int) -> Tensor:
    numbers = random.Random(seed)
    return torch.tensor([2 * numbers.random() - 1 for _ in range(n)], dtype=torch.float64)


_kept_numbers = lru_cache(maxsize=64)(_made_numbers)


def _without_last(with_last: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers without and with their last column."""
    return with_last[:, :-1].contiguous(), with_last


def _entry(tree: Tree, g: int) -> Tree:
    return tree[:, g] if isinstance(tree, Tensor) else {key: _entry(part, g) for key, part in tree.items()}
