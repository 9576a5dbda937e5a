"""Whether an exported policy answers as its agent, and is equivariant: on random and on symmetric observations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from equirl.agents.exported_policy import ExportedPolicy
from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.visited_states import n_rows, rows_of
from equirl.aggregators import Select
from equirl.mappings import MappingRepresentation
from equirl.orbit import equal_rows
from equirl.representations import MonomialRepresentation, Representation, Tree
from equirl.tokens import TokenRepresentation

__all__ = ["ExportCheck", "check_export", "random_observations", "symmetric_observations"]

_RANDOM, _SYMMETRIC = 64, 16
_FARTHEST = 1e4  # bounds that are farther from each other are as good as none
_STEPS = 64  # symmetric reals are multiples of 1 / 64, whose sums are exact
_MOST_ELEMENTS = 64
_NEAR = 1e-5  # losses of two views that are this near tell nothing: round-off decides


@dataclass(frozen=True)
class ExportCheck:
    """The largest errors of an exported policy, relative to the largest output, or absolute where that is below 1.

    Attributes:
        answer_error: The largest difference between the file's answers and the agent's.
        equivariance_error: The largest ``|f(gs) - g f(s)|`` of the file ``f``; ``None`` for agents that are not exactly
            equivariant.
        n_observations: Number of observations compared.
        n_symmetric: How many of them some group element other than the identity leaves as they are.
    """

    answer_error: float
    equivariance_error: float | None
    n_observations: int
    n_symmetric: int


@torch.no_grad()
def check_export(
    run: Callable[[Tree], Tensor], policy: ExportedPolicy, space: spaces.Space[Any], seed: int = 0
) -> ExportCheck:
    """Compare an exported policy with its agent, in one batch and on a single observation.

    An observation is left out where equizero's choice hangs on round-off: two views with nearly the same loss.

    Args:
        run: The exported policy, observations ``[B, *observation]`` to outputs ``[B, *output]``.
        policy: What was exported, in evaluation mode.
        space: The space of observations.
        seed: Seed of the observations.
    """
    numbers = np.random.default_rng(seed)
    observations = random_observations(space, _RANDOM, numbers)
    n_symmetric = 0
    network = policy.acting[0] if policy.acting else None
    if network is not None:
        symmetry = network.symmetry
        order = symmetry.group.order
        elements = [g for g in range(order) if g != symmetry.group.identity]
        if elements:
            some = random_observations(space, _SYMMETRIC, numbers)
            chosen = [elements[k % len(elements)] for k in range(_SYMMETRIC)]
            symmetric = symmetric_observations(symmetry.observation, some, chosen, numbers)
            n_symmetric = _count_fixed(symmetry.observation, symmetric, chosen)
            observations = _joined(observations, symmetric)
        observations = rows_of(observations, _clear(network, observations))
    expected = policy(observations)
    size = max(1.0, float(expected.abs().max()))
    answers = run(observations)
    one = rows_of(observations, torch.tensor([0]))
    error = max(_largest(answers, expected), _largest(run(one), expected[:1])) / size
    if network is None or not network.exact:
        return ExportCheck(error, None, n_rows(observations), n_symmetric)
    moved_errors = [0.0]
    flat_answers = answers.flatten(1)
    for g in range(min(order, _MOST_ELEMENTS)):
        there = run(symmetry.observation.transform(g, observations)).flatten(1)
        moved_errors.append(_largest(there, symmetry.action.transform(g, flat_answers)))
    return ExportCheck(error, max(moved_errors) / size, n_rows(observations), n_symmetric)


def random_observations(space: spaces.Space[Any], n: int, numbers: np.random.Generator) -> Tree:
    """Return random observations ``[n, *observation]`` of a space as an environment gives them, as tensors.

    Uniform between the bounds; where there are none, or very wide ones, from a normal distribution.

    Args:
        space: ``Box``, ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or a ``Dict`` of them.
        n: How many.
        numbers: Random numbers.
    """
    if isinstance(space, spaces.Dict):
        return {key: random_observations(part, n, numbers) for key, part in space.spaces.items()}
    shape = (n, *(space.shape or ()))
    if isinstance(space, spaces.Discrete):
        return torch.as_tensor(numbers.integers(0, int(space.n), shape))
    if isinstance(space, spaces.MultiDiscrete):
        return torch.as_tensor(numbers.integers(0, space.nvec, shape))
    if isinstance(space, spaces.MultiBinary):
        return torch.as_tensor(numbers.integers(0, 2, shape, dtype=np.int8))
    if not isinstance(space, spaces.Box):
        raise TypeError(f"observations of {space} cannot be exported; Box, Discrete, MultiDiscrete, MultiBinary can")
    return torch.as_tensor(_in_box(space, shape, numbers))


def _in_box(space: spaces.Box, shape: tuple[int, ...], numbers: np.random.Generator) -> NDArray[Any]:
    low, high = (np.asarray(bound, dtype=np.float64) for bound in (space.low, space.high))
    wide = ~(high - low < _FARTHEST)
    uniform = numbers.random(shape)
    if space.dtype is not None and np.issubdtype(space.dtype, np.integer):
        low, high = np.where(wide, np.maximum(low, -100), low), np.where(wide, np.minimum(high, 100), high)
        return np.floor(low + uniform * (high - low + 1)).clip(low, high).astype(space.dtype)
    bounded = low + uniform * np.where(wide, 0, high - low)
    return np.where(wide, numbers.normal(size=shape).clip(low, high), bounded).astype(space.dtype)


def symmetric_observations(
    representation: Representation, observations: Tree, elements: list[int], numbers: np.random.Generator
) -> Tree:
    """Return observations like the given ones that group elements leave as they are, to the last bit.

    What cannot be made so stays as it is: names of which an element keeps none, representations of another kind.

    Args:
        representation: How the group moves an observation.
        observations: ``[B, *observation]``.
        elements: An element for each of them.
        numbers: Random numbers.
    """
    if isinstance(representation, MappingRepresentation):
        parts = cast("dict[str, Tree]", observations)
        return {
            key: symmetric_observations(representation.part(key), parts[key], elements, numbers)
            for key in representation.keys
        }
    rows = cast(Tensor, observations)
    if isinstance(representation, TokenRepresentation):
        return torch.stack([_of_kept(representation, row, g, numbers) for row, g in zip(rows, elements, strict=True)])
    if not isinstance(representation, MonomialRepresentation):
        return rows
    return torch.cat([_orbit_sum(representation, rows[k : k + 1], g) for k, g in enumerate(elements)])


def _orbit_sum(representation: MonomialRepresentation, row: Tensor, g: int) -> Tensor:
    """Return a sum over the powers of ``g``, scaled down; of whole numbers the largest in each place."""
    powers, power = [representation.group.identity], g
    while power != representation.group.identity:
        powers.append(power)
        power = int(representation.group.cayley[g, power])
    real = row.is_floating_point()
    start = (row * _STEPS).round() / _STEPS if real else row
    views = torch.stack([representation.transform(power, start) for power in powers])
    if real:
        return views.sum(dim=0) / float(2 ** math.ceil(math.log2(len(powers))))
    largest: Tensor = views.amax(dim=0)
    return largest.to(row.dtype)


def _of_kept(representation: TokenRepresentation, row: Tensor, g: int, numbers: np.random.Generator) -> Tensor:
    """Return tokens that ``g`` keeps, drawn anew, or the given ones if it keeps none."""
    table = representation.table[g].cpu()
    kept = (table == torch.arange(len(table))).nonzero().flatten()
    if len(kept) == 0:
        return row
    drawn: Tensor = kept[torch.as_tensor(numbers.integers(0, len(kept), tuple(row.shape)))]
    return drawn.to(row.dtype)


def _count_fixed(representation: Representation, observations: Tree, elements: list[int]) -> int:
    moved = representation.transform(torch.tensor(elements), observations)
    return int(equal_rows(moved, observations).sum())


def _clear(network: OrbitNetwork, observations: Tree) -> Tensor:
    """Return the rows ``[N]`` whose answer does not hang on round-off."""
    if not isinstance(network.aggregator, Select):
        return torch.arange(n_rows(observations))
    losses = network.aggregator.proxy_loss(network.evaluate_orbit(cast(Any, observations)))
    weights = network.orbit_weights(cast(Any, observations))
    size = torch.where(losses.isfinite(), losses, 0).abs().amax(dim=1, keepdim=True)
    near = losses <= losses.amin(dim=1, keepdim=True) + _NEAR * size
    return (near.sum(dim=1) == (weights > 0).sum(dim=1)).nonzero().flatten()


def _joined(one: Tree, other: Tree) -> Tree:
    if isinstance(one, Tensor):
        return torch.cat([one, cast(Tensor, other)])
    parts = cast("dict[str, Tree]", other)
    return {key: _joined(part, parts[key]) for key, part in one.items()}


def _largest(some: Tensor, others: Tensor) -> float:
    """Return the largest difference; infinite where shapes differ or something is not a number."""
    if some.shape != others.shape:
        return math.inf
    return float((some.double() - others.double()).abs().max().nan_to_num(nan=math.inf))
