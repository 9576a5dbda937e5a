"""Vector worlds with chance: candidates judged by what happens on average, where single steps cannot be foretold.

Under a symmetry the moved steps have the same conditional means as the steps, and so have the size and the skew of what
a model leaves of them. Chance averages out over many steps, a difference does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from equirl.envs.discovery.chance_model import ChanceModel, Polynomials
from equirl.envs.discovery.paired_differences import (
    Differences,
    Functions,
    cells,
    indicators,
    orthonormal,
    paired_differences,
)
from equirl.envs.discovery.replays import replay
from equirl.envs.discovery.report import Element, Findings
from equirl.envs.recurring import action_orders
from equirl.envs.transitions import Transitions
from equirl.envs.vector_model import VectorModel, moved
from equirl.generated_tables import Step

__all__ = ["search_with_chance"]

LARGEST_ERROR = 0.1  # share of the spread up to which a difference may go unseen
_LEAST_DIFFERENCE = 0.05  # share of the spread from which a difference refutes
_LARGEST_UNEXPLAINED = 0.3  # share of the spread that the model may fail to explain, chance apart ...
_LARGEST_CHANCE = 0.6  # share of the spread that chance and ignorance leave together: more hides small differences
_WITH_CHANCE = 0.4  # ... and where chance is at least as large as half of what is left; the bound is looser there
_LEAST_USUAL = 0.9  # share of the steps
_LEAST_UNUSUAL = 100  # steps: fewer say nothing about what happens in them
_NEGLIGIBLE = 0.01  # share of the spread
_MOST_TRIED = 24  # candidates, each with actions
_LEAST_KNOWN = 0.5  # share of the steps whose images lie where states were seen
_REPLAYED = 0.3  # steps of replays, for each step that was taken

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Verdict:
    """What the comparison of a candidate came to: ``refuted``, or ``unclear`` and why, or an error."""

    error: float
    refuted: bool = False
    unclear: str = ""


def search_with_chance(
    data: Transitions, environment: gym.Env[Any, Any], candidates: Sequence[tuple[Step, Step]], seed: int
) -> Findings:
    """Return the candidates that hold as far as conditional means tell.

    Args:
        data: Transitions with observations ``[n]``.
        environment: The one that gave them; some of its episodes are taken again, to tell chance from what the model
            fails to explain.
        candidates: Signed permutations of the coordinates, and of ``Box`` actions.
        seed: Seed of the model and of the replays.
    """
    model = ChanceModel(data, seed)
    found = Findings(complete=True, unclear=True)
    usual = float(model.usual.mean())
    if usual < _LEAST_USUAL or not model.told.any():
        found.notes.append(f"with chance or not, only {usual:.0%} of the steps follow a rule that a model can find")
        return found
    if 0 < (~model.usual).sum() < _LEAST_UNUSUAL:
        found.notes.append(f"{(~model.usual).sum()} steps are unlike the others, too few to compare; take more steps")
        return found
    if model.unexplained[model.told].max() > _LARGEST_CHANCE:
        found.notes.append(f"chance is {model.unexplained[model.told].max():.0%} of the spread, and hides differences")
        return found
    known = VectorModel(data, seed)
    if known.untold:
        found.notes.append("so few ends or special rewards were seen that nothing is said about them")
        return found
    replays = replay(environment, model, int(_REPLAYED * len(data)), seed)
    if replays.unexplained is None:
        found.notes.append("episodes cannot be taken again from a seed, so that chance is not told from ignorance")
        return found
    by_chance = replays.chance >= 0.5 * model.unexplained
    if (replays.unexplained > np.where(by_chance, _WITH_CHANCE, _LARGEST_UNEXPLAINED)).any():
        found.notes.append(
            f"a model that leaves chance aside fails to explain up to {replays.unexplained.max():.0%} of the spread "
            f"({replays.n_pairs} steps taken again, with other chance)"
        )
        return found
    found.unclear = False
    tried = 0
    for state, action in candidates:
        orders = [action] if not data.n_actions else _orders(model, state)
        tried += len(orders)
        if tried > _MOST_TRIED:
            found.notes.append(
                f"more than {_MOST_TRIED} candidates are left, too many to compare where chance is at work"
            )
            found.unclear = True
            break
        held = []
        for chosen in orders:
            verdict = _judged(model, known, state, chosen)
            if verdict.unclear:
                found.unclear = True
                found.notes.append(f"a candidate is neither confirmed nor refuted: {verdict.unclear}")
            elif not verdict.refuted:
                held.append(Element("", state, chosen, verdict.error, int(model.usual.sum())))
        if len(held) > 1:
            found.unclear = True
            found.notes.append(f"{len(held)} ways to move the actions cannot be told apart")
        found.elements += held
    found.notes.append(
        f"outcomes vary by chance: conditional means of {model.usual.sum():,} steps, and size and skew of what is left "
        f"of them, were compared for {tried} candidates, in all states and in parts of them"
    )
    found.notes.append(
        f"the error is what a difference that varies slowly with the state may have and go unseen; {replays.n_pairs} "
        f"steps taken again show that all but chance is explained up to {replays.unexplained.max():.2g} of the spread"
    )
    if usual < 1:
        found.notes.append(
            f"{1 - usual:.1%} of the steps are unlike the others (jumps, ends): where they happen and what happens in "
            "them was compared as far as so few steps tell"
        )
    return found


def _orders(model: ChanceModel, step: Step) -> list[Step]:
    """Return the permutations of ``Discrete`` actions that the mean outcomes of all states allow."""
    data = model.data
    n_actions, chosen = data.n_actions, model.usual
    actions = data.actions[chosen]
    episode, outcomes = model.episode[chosen], _moved_outcomes(model.outcomes[chosen], step)
    possible = np.zeros((n_actions, n_actions), dtype=bool)
    for b in range(n_actions):
        wholly = np.full(len(data), b)
        of_all = model.predict(moved(data.states, step), wholly)[chosen]
        left = (outcomes - of_all) / _spread(model, step)
        for a in range(n_actions):
            rows = np.flatnonzero(actions == a)
            if not len(rows):
                continue
            each = np.clip(left[rows][:, model.told], -3, 3)
            ones = np.ones((len(rows), 1))
            difference = paired_differences((ones, ones), each, np.zeros_like(each), episode[rows], _NEGLIGIBLE)
            possible[a, b] = not (difference.seen & (difference.least > _LEAST_DIFFERENCE)).any()
    return [Step(order, None) for order in action_orders(possible)]


def _judged(model: ChanceModel, known: VectorModel, step: Step, action: Step) -> _Verdict:
    data = model.data
    near = model.near(moved(data.states, step)) & model.near(moved(data.states, _inverse(step)))
    if near.mean() < _LEAST_KNOWN:
        return _Verdict(np.inf, unclear="it carries most states to where none were seen")
    events = known.compare(step, action).events
    error, seen = 0.0, False
    for differences, counts in _compared(model, step, action, near):
        events |= bool((differences.seen & (differences.least > _LEAST_DIFFERENCE)).any())
        seen |= bool(differences.seen.any())
        if counts:
            error = max(error, float(differences.most.max()))
    if events:
        return _Verdict(error, refuted=True)
    if seen:
        return _Verdict(error, unclear="a small difference, or one in a few states, is beyond chance")
    if error > LARGEST_ERROR:
        return _Verdict(error, unclear=f"a difference of {error:.0%} of the spread could go unseen")
    return _Verdict(error)


def _compared(
    model: ChanceModel, step: Step, action: Step, near: NDArray[np.bool_]
) -> Iterator[tuple[Differences, bool]]:
    """Yield the differences of a candidate, and whether they count for its error."""
    data, states = model.data, moved(model.data.states, step)
    actions = np.array(action.to)[data.actions] if data.n_actions else moved(data.actions, action)
    inputs, there = model.inputs(data.states, data.actions), model.inputs(states, actions)
    told, spread = model.told, _spread(model, step)
    left = ((model.outcomes - model.predict(data.states, data.actions)) / spread)[:, told]
    left_there = ((_moved_outcomes(model.outcomes, step) - model.predict(states, actions)) / spread)[:, told]

    def functions(rows: NDArray[np.bool_], degree: int, each_action: bool = True) -> Functions:
        of = Polynomials(inputs, data.n_actions if each_action else 0, degree)
        return orthonormal(of(inputs[rows], data.actions[rows]), of(there[rows], actions[rows]))

    def parts(rows: NDArray[np.bool_], halvings: int, each_action: bool = False) -> Functions:
        label, label_there = cells(inputs[rows], there[rows], halvings)
        if each_action and data.n_actions:
            label = label * data.n_actions + data.actions[rows]
            label_there = label_there * data.n_actions + actions[rows]
        return indicators(label, label_there)

    rows = model.usual & near
    scale = np.maximum(model.unexplained[told], 1e-3)
    here, there_left = (
        np.concatenate([x, np.abs(x), np.clip(x, -scale, scale)], axis=1)
        for x in (np.clip(left[rows], -3, 3), np.clip(left_there[rows], -3, 3))
    )
    for of, counts in (
        (functions(rows, 1), True),
        (parts(rows, 4), True),
        (functions(rows, 2), False),
        (parts(rows, 6), False),
        (parts(rows, 6, each_action=True), False),
    ):
        yield paired_differences(of, here, there_left, model.episode[rows], _NEGLIGIBLE), counts
    rare = np.flatnonzero(np.append(model.rare, [True, True]) & (np.ptp(model.rare_outcomes, axis=0) > 0))
    if len(rare):
        unit = np.maximum(model.rare_outcomes.std(axis=0), 1e-300)
        wanted = np.concatenate(
            [_moved_outcomes(model.rare_outcomes[:, :-2], step), model.rare_outcomes[:, -2:]], axis=1
        )
        unit = np.maximum(unit, np.append(_carried(unit[:-2], step), unit[-2:]))
        first = ((model.rare_outcomes - model.predict(data.states, data.actions, rare=True)) / unit)[near][:, rare]
        second = ((wanted - model.predict(states, actions, rare=True)) / unit)[near][:, rare]
        for of in (functions(near, 1), parts(near, 4), parts(near, 6)):
            yield paired_differences(of, first, second, model.episode[near], _NEGLIGIBLE), False
    for rows in (near & ~model.usual & data.ends, near & ~model.usual & ~data.ends):
        if rows.sum() < 2:
            continue
        both = _levels(left[rows], left_there[rows])
        for of in (functions(rows, 1), functions(rows, 1, each_action=False), parts(rows, 2)):
            yield paired_differences(of, both[0], both[1], model.episode[rows], _NEGLIGIBLE), False


def _levels(left: Floats, left_there: Floats) -> list[Floats]:
    """Return what is left of unusual steps, and whether it is above each of some quantiles, for both samples."""
    pooled = np.concatenate([left, left_there])
    sizes = np.abs(pooled)
    largest = np.maximum(np.quantile(sizes, 0.99, axis=0), 1e-300)
    bounds = np.quantile(pooled, [0.1, 0.25, 0.75, 0.9], axis=0)
    size_bounds = np.quantile(sizes, [0.25, 0.5, 0.75, 0.9], axis=0)
    return [
        np.concatenate(
            [
                np.clip(each / largest, -1, 1),
                *(each > bound for bound in bounds),
                *(np.abs(each) > bound for bound in size_bounds),
            ],
            axis=1,
        )
        for each in (left, left_there)
    ]


def _moved_outcomes(outcomes: Floats, step: Step) -> Floats:
    """Return outcomes ``(s' - s, r)``, ``[N, n + 1]``, as a candidate moves them."""
    return np.concatenate([moved(outcomes[:, :-1], step), outcomes[:, -1:]], axis=1)


def _spread(model: ChanceModel, step: Step) -> Floats:
    return np.asarray(np.maximum(model.spread, _carried(model.spread, step)))


def _carried(each: Floats, step: Step) -> Floats:
    """Return a number for each outcome as a candidate carries the outcomes."""
    result = each.copy()
    result[list(step.to)] = each[: len(step.to)]
    return result


def _inverse(step: Step) -> Step:
    signs = step.signs or (1,) * len(step.to)
    to = np.argsort(step.to)
    return Step(tuple(to.tolist()), tuple(signs[i] for i in to.tolist()))
