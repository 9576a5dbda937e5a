"""How often an agent's greedy action hangs on the orientation of a state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor

from equirl.agents.visited_states import n_rows
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["disagreement_share"]

_NUMBERS_DIFFER = 0.01
"""Numbers of an action that are this far apart, as a share of their size over all states, are different actions."""


def disagreement_share(
    scores: Callable[[Tree], Tensor],
    symmetry: MDPSymmetry,
    observations: Tree,
    space: spaces.Space[Any] | None = None,
) -> float:
    """Return the share of states ``s`` where for some ``g`` the greedy action at ``gs`` is not ``ga``.

    Where scores are equal to round-off there are several greedy actions; then the sets are compared. ``Box`` actions
    differ where some number is off by more than 1 % of the largest number of all states.

    Args:
        scores: Observations ``[B, *observation]`` to what the agent acts on, ``[B, A]``; see ``action_scores``.
        symmetry: The symmetry.
        observations: States, ``[B, *observation]``.
        space: The space of actions; by default ``Discrete``.

    Raises:
        ValueError: No states, or scores that are not finite.
    """
    if n_rows(observations) == 0:
        raise ValueError("the disagreement is a share of some states; got none")
    here = _finite(scores(observations))
    disagree = torch.zeros(len(here), dtype=torch.bool, device=here.device)
    for g in range(symmetry.group.order):
        there = _finite(scores(symmetry.observation.transform(g, observations)))
        expected: Any = symmetry.action.transform(g, here)
        disagree |= _differ(there, expected, space)
    return float(disagree.float().mean())


def _differ(one: Tensor, other: Tensor, space: spaces.Space[Any] | None) -> Tensor:
    """Return which rows ask for different actions, booleans ``[B]``."""
    if isinstance(space, spaces.Box):
        size = torch.maximum(one.abs().amax(), other.abs().amax())
        return ((one - other).abs() > _NUMBERS_DIFFER * size).any(dim=1)
    if isinstance(space, spaces.MultiBinary):
        return ((one > 0) != (other > 0)).any(dim=1)
    parts = [int(n) for n in space.nvec] if isinstance(space, spaces.MultiDiscrete) else [one.shape[1]]
    pairs = zip(one.split(parts, dim=1), other.split(parts, dim=1), strict=True)  # type: ignore[no-untyped-call]
    return torch.stack([(_greedy(a) != _greedy(b)).any(dim=1) for a, b in pairs]).any(dim=0)


def _greedy(scores: Tensor) -> Tensor:
    """Return which actions are greedy, ``[B, A]``: more than one where scores are equal to round-off."""
    best = scores.amax(dim=1, keepdim=True)
    # Round-off grows with the scores; what makes a difference is the spread between them.
    round_off = 32 * torch.finfo(scores.dtype).eps * scores.abs().amax(dim=1, keepdim=True)
    return scores >= best - 1e-4 * (best - scores.amin(dim=1, keepdim=True)) - round_off


def _finite(scores: Tensor) -> Tensor:
    if not bool(torch.isfinite(scores).all()):
        raise ValueError("an agent's scores are not finite; look at its weights, and at the observations")
    return scores
