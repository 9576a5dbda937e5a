"""What transitions show about where a symmetry fails: examples from which a gate learns, without rewards of a task.

A pair of state and action is compared with its images: here directly, where states recur. For measured states, which
never do, see ``equirl.agents.model_evidence``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import chdtrc  # as chi2.sf, whose module takes a second to import
from torch import Tensor

from equirl.canonical import MinimalFrame
from equirl.mappings import MappingRepresentation
from equirl.orbit import flatten_rows
from equirl.representations import Tree, map_tensors
from equirl.symmetry import MDPSymmetry

__all__ = ["Evidence", "Examples", "RecurringEvidence", "Steps", "joined", "some_steps"]

_MOST_PAIRS = 200_000  # of state and action, up to symmetry, that are remembered
_LEAST_COUNT, _SIGNIFICANCE = 5, 1e-4  # visits of each image, and of the test that their outcomes differ
_MANY = 10_000  # pairs, of which some should have come up with an image
_LEAST_SHOWN = 20  # pairs that were seen with another image, before anything is learned; in small worlds half of all


class Steps(NamedTuple):
    """Transitions ``(s, a, r, s')`` of many environments.

    Attributes:
        observations: ``[N, *observation]``, or a dict of such.
        actions: One-hot or as they are, ``[N, A]``.
        rewards: ``[N]``.
        next_observations: As ``observations``.
        ends: Whether the episode ended there, not by a time limit, ``[N]``.
    """

    observations: Tree
    actions: Tensor
    rewards: Tensor
    next_observations: Tree
    ends: Tensor


class Examples(NamedTuple):
    """Pairs of state and action, and whether the symmetry fails there.

    Attributes:
        observations: ``[N, *observation]``, or a dict of such.
        actions: ``[N, A]``.
        broken: In {0, 1}, ``[N]``.
    """

    observations: Tree
    actions: Tensor
    broken: Tensor


class Evidence(ABC):
    """Collects transitions and says where they show that the symmetry holds and where it fails.

    Args:
        symmetry: The symmetry.
    """

    positive_weight: float = 1.0
    """How much more an example of failure counts than one of symmetry."""

    def __init__(self, symmetry: MDPSymmetry) -> None:
        self.symmetry = symmetry

    @abstractmethod
    def add(self, steps: Steps) -> None:
        """Take further transitions."""

    @abstractmethod
    def draw(self, n: int, random: np.random.Generator) -> Examples | None:
        """Return ``n`` examples, or ``None`` as long as the transitions show nothing."""


class RecurringEvidence(Evidence):
    """Compares a pair of state and action with its images where both were seen; for states that recur.

    Each pair is carried to a canonical image of itself, and what followed is carried along: if the symmetry holds,
    images have the same outcome there (or, where chance plays a part, outcomes as frequent: a chi-square test).
    """

    def __init__(self, symmetry: MDPSymmetry) -> None:
        super().__init__(symmetry)
        both = MappingRepresentation({"observation": symmetry.observation, "action": symmetry.action})
        self._frame = MinimalFrame(both)
        self._numbers: dict[bytes, int] = {}  # of pairs up to symmetry
        self._outcomes: list[dict[bytes, Counter[bytes]]] = []  # of each image of a pair that was seen
        self._first: list[Steps] = []  # where each pair was met first, carried to its canonical image
        self._shown: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None  # which are told, and as what
        self._differ: list[bool | None] = []
        self._varies = False

    def add(self, steps: Steps) -> None:  # noqa: D102
        given = {"observation": steps.observations, "action": steps.actions}
        weights = self._frame.best(given).weights
        rows, elements = (weights > 0).nonzero().unbind(1)  # all elements that lead to the canonical image
        observation, action = self.symmetry.observation, self.symmetry.action
        seen = some_steps(steps, rows)
        carried = seen._replace(
            observations=observation.transform_each(elements, seen.observations),
            actions=action.transform_each(elements, seen.actions),
            next_observations=observation.transform_each(elements, seen.next_observations),
        )
        keys, after = _bytes(carried.observations, carried.actions), _bytes(carried.next_observations)
        images = _bytes(seen.observations, seen.actions, elements)
        new, changed, varied = [], set(), self._varies
        for i, (key, image, reward, end) in enumerate(
            zip(keys, images, steps.rewards[rows].tolist(), seen.ends.tolist(), strict=True)
        ):
            number = self._numbers.get(key)
            if number is None:
                if len(self._outcomes) >= _MOST_PAIRS:
                    continue
                number = self._numbers[key] = len(self._outcomes)
                self._outcomes.append({})
                self._differ.append(None)
                new.append(i)
            counts = self._outcomes[number].setdefault(image, Counter())
            outcome = repr(round(reward, 6)).encode() + (b"end" if end else after[i])
            if outcome not in counts or varied:
                changed.add(number)
            counts[outcome] += 1
            self._varies = self._varies or len(counts) > 1
        if new:
            picked = torch.tensor(new)
            self._first.append(some_steps(carried, picked))
        for number in changed if self._varies == varied else range(len(self._differ)):
            self._differ[number] = self._differs(self._outcomes[number])
        self._shown = None

    def draw(self, n: int, random: np.random.Generator) -> Examples | None:  # noqa: D102
        numbers_shown, broken_shown = self._told()
        if not len(numbers_shown) or len(numbers_shown) < min(_LEAST_SHOWN, len(self._differ) / 2):
            return None
        if len(self._first) > 1:
            self._first = [joined(self._first)]
        drawn = random.integers(len(numbers_shown), size=n)
        rows, pairs = torch.as_tensor(numbers_shown[drawn]), self._first[0]
        observations = map_tensors(pairs.observations, lambda values: values[rows])
        return Examples(observations, pairs.actions[rows], torch.as_tensor(broken_shown[drawn]))

    @property
    def told(self) -> str:
        """How many pairs of state and action were seen with another image of themselves, for a message."""
        return f"{len(self._told()[0])} of {len(self._differ)} pairs of state and action, up to symmetry,"

    def _told(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the numbers of the pairs of which is known whether the symmetry fails there, and whether it does."""
        if self._shown is None:
            told = [(number, float(differs)) for number, differs in enumerate(self._differ) if differs is not None]
            numbers, broken = zip(*told, strict=True) if told else ((), ())
            self._shown = np.array(numbers, dtype=np.int64), np.array(broken, dtype=np.float32)
        return self._shown

    @property
    def never_recurs(self) -> bool:
        """Whether many pairs of state and action were seen, and none of them with an image of itself."""
        return len(self._outcomes) >= _MANY and all(differs is None for differs in self._differ)

    def verdicts(self, observations: Tree, actions: Tensor) -> NDArray[np.float64]:
        """Return for each pair of state and action whether the symmetry fails there: 1, or 0, or NaN if unknown.

        Args:
            observations: ``[N, *observation]``.
            actions: As the group moves them, ``[N, A]``.
        """
        elements = self._frame.best({"observation": observations, "action": actions}).elements
        carried = self.symmetry.observation.transform_each(elements, observations)
        keys = _bytes(carried, self.symmetry.action.transform_each(elements, actions))
        known = [self._numbers.get(key) for key in keys]
        differ = [None if number is None else self._differ[number] for number in known]
        return np.array([np.nan if each is None else float(each) for each in differ])

    def _differs(self, outcomes: dict[bytes, Counter[bytes]]) -> bool | None:
        """Return whether images have other outcomes; ``None`` where there is too little to say."""
        counts = list(outcomes.values())
        if not self._varies:
            return None if len(counts) < 2 else any(each.keys() != counts[0].keys() for each in counts)
        counts = [each for each in counts if each.total() >= _LEAST_COUNT]
        kinds = sorted(set().union(*counts))
        if len(counts) < 2:
            return None
        if len(kinds) == 1:
            return False
        table = np.array([[each[kind] for kind in kinds] for each in counts], dtype=np.float64)
        expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
        statistic = float(((table - expected) ** 2 / expected).sum())
        return bool(chdtrc((table.shape[0] - 1) * (table.shape[1] - 1), statistic) < _SIGNIFICANCE)


def some_steps(steps: Steps, rows: Tensor) -> Steps:
    """Return some of the transitions."""
    parts: list[Any] = [map_tensors(part, lambda values: values[rows]) for part in steps]
    return Steps(*parts)


def joined(steps: list[Steps]) -> Steps:
    """Return transitions one after another."""
    return Steps(*(_concatenated([getattr(each, part) for each in steps]) for part in Steps._fields))


def _concatenated(trees: list[Any]) -> Any:
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.cat(trees)
    return {key: _concatenated([tree[key] for tree in trees]) for key in first}


def _bytes(*parts: Tree) -> list[bytes]:
    """Return for each row the bytes of all its numbers."""
    flat = [flatten_rows(part).to(torch.float32) + 0.0 for part in parts]  # -0.0 becomes 0.0
    rows: NDArray[np.float32] = torch.cat(flat, dim=1).cpu().numpy()
    return [row.tobytes() for row in rows]
