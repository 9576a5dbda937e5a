"""Are dynamics symmetric, where no state can be set? Transitions of rollouts are compared with each other.

Where states recur, each pair of state and action is compared with its image. Of other vectors a model is fitted, which
sees large violations only, and cannot show that there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.dynamics_check import Finding
from equirl.envs.recurring import Outcomes
from equirl.envs.symmetry_report import Violation
from equirl.envs.transitions import Transitions, collect_transitions
from equirl.envs.vector_model import VectorModel
from equirl.generated_tables import step_of
from equirl.representations import MonomialRepresentation
from equirl.symmetry import MDPSymmetry
from equirl.tokens import TokenRepresentation

__all__ = ["check_transitions"]

_LEAST_REPEATS = 100  # transitions from a pair of state and action that was seen before
_LEAST_SHARE = 0.9  # of the pairs seen, compared under some element, for the verdict that nothing differs
_VISITS = 3  # of a pair and of its image, always with one outcome: then nothing hidden decides it
_VARIES = "outcomes vary, and how often they come up"
_IF_WHOLE = ": a violation, if the observation shows the whole state"
_LEAST_FITTED = 5000  # transitions, before the model is asked
_LEAST_RATIO, _LEAST_ERROR = 6.0, 0.25  # of a violation that the model sees: far beyond what symmetric worlds show
_CLEAR = 6.0  # standard errors by which ends or special rewards must be elsewhere


def check_transitions(
    environment: gym.Env[Any, Any],
    symmetry: MDPSymmetry,
    n: int,
    seed: int,
    agent: Callable[[Any], Any] | None = None,
) -> Finding:
    """Compare transitions of rollouts with each other, under each generator of the group.

    Args:
        environment: ``Discrete`` or ``Box`` actions; observations ``Box`` or ``Discrete``.
        symmetry: Fits its spaces.
        n: Steps to take.
        seed: Seed of environment, actions and model.
        agent: Takes half of the actions.

    Returns:
        The finding; ``skipped`` where the transitions cannot tell.
    """
    rep = symmetry.observation
    if not isinstance(rep, (MonomialRepresentation, TokenRepresentation)) or not symmetry.group.generators:
        return Finding("", skipped="transitions of rollouts are compared where an observation is one array")
    try:
        data = collect_transitions(environment, n, seed, agent)
    except TypeError as error:
        return Finding("", skipped=str(error))
    if data.n_actions and (known := Outcomes(data)).n_repeats >= _LEAST_REPEATS:
        return _recurring(known, data, symmetry)
    if isinstance(environment.observation_space, spaces.Box) and len(data.shape) == 1:
        return _fitted(data, symmetry, seed)
    return Finding("", skipped=f"states hardly recur in {n:,} steps of rollouts, so these cannot be compared")


def _recurring(known: Outcomes, data: Transitions, symmetry: MDPSymmetry) -> Finding:
    group, compared = symmetry.group, 0.0
    description = f"dynamics: {known.n_pairs:,} pairs of state and action that rollouts saw"
    for g in group.generators:
        image = known.image(_moved(symmetry, g, data, known.states))
        order = np.asarray(symmetry.permuted_actions.index[g].argsort().cpu())
        if known.varies:
            result = known.compare(image)
            if result.wrong[range(data.n_actions), order].any():
                return Finding(description, skipped=f"{_VARIES} differs from their images{_IF_WHOLE}")
            continue
        both, wrong = known.contradicted(image, order)
        if len(wrong):
            theirs = image[wrong // data.n_actions] * data.n_actions + order[wrong % data.n_actions]
            certain = wrong[(known.visits[wrong] >= _VISITS) & (known.visits[theirs] >= _VISITS)]
            detail = f"{len(wrong)} of {both.sum()} pairs of state and action have other outcomes than their images"
            if not len(certain):
                reason = f"{detail}, but were seen less than {_VISITS} times: what is not observed may be the reason"
                return Finding(description, skipped=reason)
            state, action = divmod(int(certain[0]), data.n_actions)
            shown = known.states[state].reshape(data.shape)
            return Finding(description, Violation("dynamics", group.element_names[g], detail, shown, action))
        compared = max(compared, float(both.sum()) / known.n_pairs)
    if known.varies:
        return Finding(description, skipped=f"{_VARIES} agrees with their images")
    if compared < _LEAST_SHARE:
        reason = f"{compared:.0%} of the pairs of state and action that rollouts saw were compared with their images"
        return Finding(description, skipped=f"{reason}, and agree; take more transitions")
    return Finding(f"{description}, {compared:.0%} of them compared with their images; none differs")


def _fitted(data: Transitions, symmetry: MDPSymmetry, seed: int) -> Finding:
    if len(data) < _LEAST_FITTED:
        return Finding("", skipped=f"{len(data):,} transitions of rollouts are too few to fit a model of the dynamics")
    model = VectorModel(data, seed)
    description = f"dynamics: a model of {len(data):,} transitions of rollouts"
    group, worst = symmetry.group, 0.0
    rep = cast(MonomialRepresentation, symmetry.observation)
    for g in group.generators:
        evidence = model.compare(step_of(rep, g), step_of(symmetry.permuted_actions, g), _CLEAR)
        if evidence.away:
            return Finding(description, skipped=f"{group.element_names[g]} carries states to where no rollout came")
        if evidence.events or (evidence.ratio > _LEAST_RATIO and evidence.error > _LEAST_ERROR):
            what = "ends or special rewards are elsewhere" if evidence.events else f"{evidence.error:.2g} of the spread"
            detail = f"a model of the transitions predicts their images worse than themselves: {what}"
            return Finding(description, Violation("dynamics", group.element_names[g], detail))
        worst = max(worst, evidence.error, float(model.resolution.max()))
    reason = f"a model of {len(data):,} transitions of rollouts sees no difference above {worst:.2g} of the spread"
    return Finding(description, skipped=reason)


def _moved(symmetry: MDPSymmetry, g: int, data: Transitions, states: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return flat states moved by an element."""
    whole = isinstance(symmetry.observation, TokenRepresentation)
    shaped = torch.from_numpy(states.astype(np.int64) if whole else states).view(-1, *data.shape)
    turned = cast(torch.Tensor, symmetry.observation.transform(g, shaped))
    result: NDArray[np.float64] = turned.numpy().reshape(states.shape).astype(np.float64)
    return result
