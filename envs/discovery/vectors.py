"""Vector observations: signed permutations of the coordinates, drawn by matching, judged by a model of the dynamics."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from equirl.envs.discovery.report import Element, Findings
from equirl.envs.recurring import action_orders
from equirl.envs.transitions import Transitions
from equirl.envs.vector_model import VectorEvidence, VectorModel, moved
from equirl.generated_tables import Step

__all__ = ["search_vectors"]

LARGEST_RATIO = 1.5  # of a symmetry's prediction error to the model's own
LARGEST_ERROR = 0.05  # share of the spread: what is off by more is no symmetry, not even nearly
_LARGEST_NEAR = 0.4  # share of the spread: what is off by less is measured by setting states, where they can be set
_LARGEST_RESOLUTION = 0.3  # of a model that can tell candidates apart
_LARGEST_DISTANCE = 0.2  # of two distribution functions; consecutive states are far from independent
_LARGEST_COUPLING = 0.35  # difference of two correlations
_MOST_CANDIDATES = 5000
_MOST_ORDERS = 24  # of the actions, all of which count as possible where the model tells little
_LOOKED_AT = 50  # states that tell whether two candidates do the same
_LEAST_TRANSITIONS = 2000
_LEAST_EACH = 200  # transitions with each action

Floats = NDArray[np.float64]


def search_vectors(data: Transitions, seed: int = 0, *, loose: bool = False) -> Findings:
    """Return the signed permutations that hold, each with a permutation (``Box``: a signed one) of the actions.

    Args:
        data: Transitions with observations ``[n]``.
        seed: Seed of the model and of its split.
        loose: Whether distributions of coordinates count as alike that differ by a few hundredths of their spread, and
            a model counts that explains little: for candidates that are measured afterwards.
    """
    if len(data) < _LEAST_TRANSITIONS:
        return Findings(notes=[f"{len(data):,} transitions; take {_LEAST_TRANSITIONS:,} or more"], unclear=True)
    model = VectorModel(data, seed)
    if not model.changes:
        return Findings(notes=["no coordinate and no reward ever changes, so that nothing tells candidates apart"])
    if model.least_fitted < _LEAST_EACH:
        note = f"{len(data):,} transitions, {model.least_fitted} to fit one action's model; take more steps"
        return Findings(notes=[note], unclear=True)
    n = data.states.shape[1]
    found = Findings(complete=True)
    steps = list(itertools.islice(_candidates(data, loose), _MOST_CANDIDATES + 1))
    if len(steps) > _MOST_CANDIDATES:
        note = f"more than {_MOST_CANDIDATES:,} signed permutations of {n} coordinates are left to try"
        return Findings(notes=[note], unclear=True)
    blind = np.flatnonzero(model.resolution > _LARGEST_RESOLUTION)
    if steps and blind.size and not loose:
        names = ", ".join("the reward" if i == n else f"coordinate {i}" for i in blind[:8])
        note = f"the model explains too little of {names} to tell candidates apart ({model.resolution.max():.0%} left)"
        return Findings(notes=[note], unclear=True)
    tried, best_refused = 0, float("inf")
    for state, action in steps:
        actions = [action]
        if data.n_actions:
            possible = model.possible_actions(state, 2 * LARGEST_RATIO)
            if blind.size and math.factorial(data.n_actions) <= _MOST_ORDERS:
                possible[:] = True  # such a model refuses true orders, too
            actions = [Step(order, None) for order in action_orders(possible)]
        for chosen in actions:
            tried += 1
            evidence = model.compare(state, chosen)
            if not evidence.away and (blind.size or _refused(evidence)):
                best_refused = min(best_refused, max(evidence.error, 1e-6))
                if blind.size or evidence.error <= _LARGEST_NEAR:
                    found.near.append(Element("", state, chosen, evidence.error, len(model.held)))
                continue
            if evidence.away or evidence.error > LARGEST_ERROR:
                found.unclear = True
            else:
                found.elements.append(Element("", state, chosen, evidence.error, len(model.held)))
    found.notes.append(
        f"{len(steps)} signed permutations of {n} coordinates behave alike one by one; {tried} of them, each with "
        f"actions, were compared on {len(model.held):,} held-out transitions"
    )
    found.notes.append(f"the model leaves {model.resolution.max():.2g} of the spread unexplained: less cannot be told")
    if best_refused < float("inf"):
        found.notes.append(f"the best candidate that was refused adds an error of {best_refused:.2g} of the spread")
    if model.untold:
        found.notes.append("so few ends or special rewards were seen that nothing is said about them")
        found.unclear |= bool(found.elements)
    return found


def _refused(evidence: VectorEvidence) -> bool:
    far = evidence.ratio > LARGEST_RATIO and evidence.error > LARGEST_ERROR
    return far or evidence.outliers or evidence.events


def _candidates(data: Transitions, loose: bool = False) -> Iterator[tuple[Step, Step]]:
    """Yield signed permutations of coordinates and of ``Box`` actions that keep marginals and correlations.

    They keep the distribution of each coordinate, of its change, and the correlations of all these with each other.
    """
    n = data.states.shape[1]
    boxed = np.empty((len(data), 0)) if data.n_actions else np.asarray(data.actions, dtype=np.float64)
    m = boxed.shape[1]
    change = data.next_states - data.states
    values = np.concatenate([data.states, boxed], axis=1)
    changes = np.concatenate([change, boxed], axis=1)
    still = np.ptp(values, axis=0) == 0
    alike = _loosely_alike if loose else _alike
    options = [
        [
            (j, sign)
            for j in (range(n) if i < n else range(n, n + m))
            for sign in (1, -1)
            if not (still[i] or still[j]) or (i == j and sign == 1)
            if alike(values[:, i], sign * values[:, j]) and alike(changes[:, i], sign * changes[:, j])
        ]
        for i in range(n + m)
    ]
    # Coordinate i of the moved vector comes from j, with a sign: what belongs to i and k must belong to j and l.
    coupling = np.stack([_correlated(values, values), _correlated(changes, values), _correlated(changes, changes)])
    # Coordinates that hardly have a choice come first, and what is coupled to those chosen next.
    order = sorted(range(n + m), key=lambda i: len(options[i]))

    def extend(chosen: dict[int, tuple[int, int]]) -> Iterator[dict[int, tuple[int, int]]]:
        if len(chosen) == n + m:
            yield chosen
            return
        i = order[len(chosen)]
        for j, sign in options[i]:
            if any(j == taken for taken, _ in chosen.values()):
                continue
            fits = all(
                np.abs(coupling[:, [i, k], [k, i]] - sign * s * coupling[:, [j, other], [other, j]]).max()
                <= _LARGEST_COUPLING
                for k, (other, s) in chosen.items()
            ) and bool(np.abs(coupling[:, i, i] - coupling[:, j, j]).max() <= _LARGEST_COUPLING)
            if fits:
                yield from extend({**chosen, i: (j, sign)})

    looked_at, effects = data.states[:: max(1, len(data) // _LOOKED_AT)], set()
    for chosen in extend({}):
        state, action = _step([chosen[i] for i in range(n)]), _step([chosen[n + i] for i in range(m)], n)
        effect = (moved(looked_at, state) + 0.0).tobytes()
        if (effect, action) in effects or (effect == looked_at.tobytes() and (_stays(action) or data.n_actions)):
            continue  # it does what another one does, or nothing: coordinates that are equal, or always 0
        effects.add((effect, action))
        yield state, action


def _step(chosen: Sequence[tuple[int, int]], first: int = 0) -> Step:
    """Return the step of a vector whose coordinate ``i`` comes from ``chosen[i] = (j, sign)``."""
    to, signs = [0] * len(chosen), [1] * len(chosen)
    for i, (j, sign) in enumerate(chosen):
        to[j - first], signs[j - first] = i, sign
    return Step(tuple(to), tuple(signs))


def _stays(step: Step) -> bool:
    return list(step.to) == list(range(len(step.to))) and min(step.signs or (1,)) > 0


def _alike(first: Floats, second: Floats) -> bool:
    """Return whether two distributions are close, by the distance of Kolmogorov and Smirnov, up to last bits."""
    unit = 1e-6 * max(float(np.abs(first).max()), 1e-12)
    first, second = np.sort(np.round(first / unit)), np.sort(np.round(second / unit))
    both = np.concatenate([first, second])
    below = np.searchsorted(first, both, "right") - np.searchsorted(second, both, "right")
    return float(np.abs(below).max() / len(first)) <= _LARGEST_DISTANCE


def _loosely_alike(first: Floats, second: Floats) -> bool:
    """Return whether two distributions are close after a shift, each way, by what may differ nearly."""
    slack = 2 * LARGEST_ERROR * max(float(first.std()), float(second.std()))
    first, second = np.sort(first), np.sort(second)
    both = np.concatenate([first, second])
    return all(
        float((np.searchsorted(one, both - slack) - np.searchsorted(other, both + slack, "right")).max())
        <= _LARGEST_DISTANCE * len(first)
        for one, other in ((first, second), (second, first))
    )


def _correlated(first: Floats, second: Floats) -> Floats:
    """Return correlations without a mean taken off, ``[n, n]``; what a sign keeps, the mean would not."""
    a, b = (rows / np.maximum(np.sqrt((rows**2).mean(0)), 1e-12) for rows in (first, second))
    return np.asarray(a.T @ b / len(first))
