"""Observations ``[C, H, W]``: turns, mirrors and shifts, each with a permutation of channels that look alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from equirl.envs.discovery.report import Element, Findings
from equirl.envs.frequencies import shift_seen
from equirl.envs.recurring import Comparison, Outcomes, action_orders
from equirl.envs.transitions import Transitions
from equirl.generated_tables import Step

__all__ = ["search_images"]

_LEAST_COMPARED = 100
_LEAST_EACH = 10  # pairs compared for each action
_LEAST_SHARE = 0.5  # or this share of all pairs, where there are few
_LEAST_ALIKE = 0.3  # of a channel's pictures, that must be among another's
_LEAST_STATES = 0.1  # of the states, that a candidate must carry to states that were seen
_MOST_CHANNEL_ORDERS = 500
_MOST_ELSEWHERE = 2000
_MOST_BROKEN = 0.2  # share of the pairs that may contradict a candidate that is to be measured by setting states
_LOOKED_AT = 300  # states that tell whether a candidate is worth a comparison

Integers = NDArray[np.int64]


def search_images(data: Transitions) -> Findings:
    """Return the turns, mirrors and shifts that hold.

    Args:
        data: Transitions with ``Discrete`` actions, observations of the shape ``[C, H, W]``.
    """
    known = Outcomes(data)
    if known.n_repeats < _LEAST_COMPARED:
        note = f"states hardly recur: {known.n_pairs:,} pairs of state and action in {len(data):,} steps"
        return Findings(notes=[note], unclear=True)
    found = Findings(outcomes=None if known.varies else known)
    if known.slope:
        found.notes.append(f"rewards change by {known.slope:.4g} with each step of the episode: compared without that")
    cells = np.arange(known.states.shape[1]).reshape(data.shape)
    comparing = _Comparing(known, found)
    for name, index in _candidates(known.states, _moves(cells)):
        comparing.consider(name, index)
    if comparing.shifted and not any(element.name.startswith("shift") for element in found.elements):
        # The borders do not matter, but some cell does: turns and mirrors around others than the centre.
        for name, index in itertools.islice(_candidates(known.states, _moves_elsewhere(cells)), _MOST_ELSEWHERE):
            comparing.consider(name, index)
    found.notes.append(
        f"{comparing.tried} turns, mirrors and shifts compared on {known.n_pairs:,} pairs of state and action, which "
        "recur"
    )
    if known.varies:
        found.notes.append(
            "outcomes vary: their frequencies were compared; the error is the smallest shift of a probability, in all "
            "states alike, that would surely have been seen; one in a few states may not have been"
        )
    return found


class _Comparing:
    """Compares candidates, and keeps those that hold.

    Attributes:
        tried: Number of those that were compared on all pairs.
        shifted: Whether shifts carry states to states that were seen.
    """

    def __init__(self, known: Outcomes, found: Findings) -> None:
        self._known, self._found = known, found
        chosen = np.random.default_rng(0).permutation(len(known.states))[:_LOOKED_AT]
        self._looked_at = known.states[chosen]
        self._effects = {self._looked_at.tobytes()}
        self.tried, self.shifted = 0, False

    def consider(self, name: str, index: Integers) -> None:
        """Compare the candidate that takes a state to ``state[index]``."""
        known, first = self._known, self._looked_at[:, index]
        effect = first.tobytes()
        if effect in self._effects or np.mean(known.image(first) >= 0) < _LEAST_STATES:
            return  # channels that are always equal can change places without any effect
        self._effects.add(effect)
        self.shifted |= name.startswith("shift")
        side, _, by = name.partition(" by ")
        if by not in ("", "1") and any(element.name == f"{side} by 1" for element in self._found.elements):
            return  # a larger shift is a product of smaller ones
        self.tried += 1
        result = known.compare(known.image(known.states[:, index]))
        orders = action_orders(result.wrong == 0)
        if not orders:
            self._consider_nearly(name, index, result)
            return
        chosen = range(known.n_actions), orders[0]
        n_pairs = int(result.pairs[chosen].sum())
        least = min(_LEAST_COMPARED, _LEAST_SHARE * known.n_pairs)
        if n_pairs < least or result.pairs[chosen].min() < min(_LEAST_EACH, least / known.n_actions):
            self._found.unclear = True
            return
        error = shift_seen(float(result.weight[chosen].min())) if known.varies else 0.0
        to = tuple(np.argsort(index).tolist())
        step, share = Step(to, (1,) * len(to)), n_pairs / known.n_pairs
        self._found.elements.append(Element(name, step, Step(orders[0], None), error, n_pairs, share))

    def _consider_nearly(self, name: str, index: Integers, result: Comparison) -> None:
        """Keep a candidate that few pairs contradict, with the order of the actions that fewest do."""
        from scipy.optimize import linear_sum_assignment  # slow to import

        if self._known.varies:
            return
        share = result.wrong / np.maximum(result.pairs, 1)
        order = tuple(linear_sum_assignment(share)[1].tolist())
        chosen = range(len(order)), order
        n_pairs, n_wrong = int(result.pairs[chosen].sum()), int(result.wrong[chosen].sum())
        if n_pairs >= _LEAST_COMPARED and n_wrong <= _MOST_BROKEN * n_pairs:
            to = tuple(np.argsort(index).tolist())
            step = Step(to, (1,) * len(to))
            self._found.near.append(
                Element(name, step, Step(order, None), n_wrong / n_pairs, n_pairs, n_pairs / self._known.n_pairs)
            )


def _candidates(states: NDArray[np.float64], moves: dict[str, Integers]) -> Iterator[tuple[str, Integers]]:
    """Yield names and index arrays: the moved state is ``state[index]``.

    Args:
        states: Images, ``[N, C * H * W]``.
        moves: Name to where each entry comes from, ``[C, H, W]``.
    """
    channels, height, width = next(iter(moves.values())).shape
    planes = [np.ascontiguousarray(states.reshape(len(states), channels, -1)[:, c]) for c in range(channels)]
    same: dict[bytes, list[int]] = {}  # channels that are always equal: they move together, in their order
    for c, plane in enumerate(planes):
        same.setdefault(plane.tobytes(), []).append(c)
    classes = list(same.values())
    sets = [{row.tobytes() for row in planes[members[0]]} for members in classes]
    for name, move in moves.items():
        places = (move[0] % (height * width)).reshape(-1)  # where each cell of a plane comes from
        turned = [{row.tobytes() for row in np.ascontiguousarray(planes[k[0]][:, places])} for k in classes]
        alike = np.array(
            [
                [
                    len(ours) == len(theirs) and len(there & here) >= _LEAST_ALIKE * len(here)
                    for theirs, there in zip(classes, turned, strict=True)
                ]
                for ours, here in zip(classes, sets, strict=True)
            ]
        )
        for c, here in enumerate(sets):
            if len(here) == 1 and alike[c, c]:  # nothing ever changes in it
                alike[c], alike[:, c] = np.arange(len(sets)) == c, np.arange(len(sets)) == c
        for order in itertools.islice(_orders(alike), _MOST_CHANNEL_ORDERS):
            source = np.zeros(channels, dtype=np.int64)
            for c, chosen in enumerate(order):
                source[classes[c]] = classes[chosen]
            moving = [c for c in range(channels) if source[c] != c]
            if not moving and name == "the same":
                continue
            title = f"{name}, channels {source[moving].tolist()} to {moving}" if moving else name
            yield title, move[source].reshape(-1)


def _moves(cells: Integers) -> dict[str, Integers]:
    _, height, width = cells.shape
    moves = {
        "half turn": cells[:, ::-1, ::-1],
        "left-right mirror": cells[:, :, ::-1],
        "up-down mirror": cells[:, ::-1],
    }
    if height == width:
        moves["quarter turn"] = np.rot90(cells, 1, axes=(1, 2))
        moves["quarter turn back"] = np.rot90(cells, 3, axes=(1, 2))
        moves["diagonal mirror"] = cells.transpose(0, 2, 1)
        moves["other diagonal mirror"] = cells[:, ::-1, ::-1].transpose(0, 2, 1)
    for axis, side, size in ((1, "down", height), (2, "right", width)):
        for by in range(1, size // 2 + 1):
            if size % by == 0:
                moves[f"shift {side} by {by}"] = np.roll(cells, by, axis=axis)
    return {**moves, "the same": cells}


def _moves_elsewhere(cells: Integers) -> dict[str, Integers]:
    """Return the turns and mirrors of ``_moves``, each with every shift."""
    _, height, width = cells.shape
    turns = {name: move for name, move in _moves(cells).items() if not name.startswith("shift") and name != "the same"}
    return {
        f"{name}, then {down} down and {right} right": np.roll(move, (down, right), axis=(1, 2))
        for name, move in turns.items()
        for down, right in itertools.product(range(height), range(width))
        if down or right
    }


def _orders(alike: NDArray[np.bool_]) -> Iterator[tuple[int, ...]]:
    """Yield permutations of the channels that take each to one like it: channel ``c`` comes from ``order[c]``."""

    def extend(chosen: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(chosen) == len(alike):
            yield chosen
            return
        c = len(chosen)
        for source in sorted(np.flatnonzero(alike[c]).tolist(), key=lambda source: source != c):
            if source not in chosen:
                yield from extend((*chosen, source))

    return extend(())
