"""How far is a symmetry from holding? Steps from ``s`` and from ``gs``, compared in units of what a step changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc  # as chi2.sf, whose module takes a second to import

from equirl.envs.observations import fit_symmetry
from equirl.envs.outcome_tests import Sample, resolution
from equirl.envs.placed_steps import CannotPlace, Outcome, PlacedWorld, Transition
from equirl.symmetry import MDPSymmetry

__all__ = ["LARGEST_SHARE", "LARGEST_SIZE", "Deviation", "measure_deviation", "measure_deviations"]

LARGEST_SIZE = 0.05  # share of the spread: a step that differs by more breaks the symmetry
LARGEST_SHARE = 0.08  # of the steps that break it; a symmetry broken in more does not even nearly hold

_OTHERS = 4  # elements compared that are no generators
_FURTHER = 10  # steps of rollouts for each that is compared
_REPEATED, _REPEATS = 20, 5  # steps repeated, and how often, to see whether chance is at work
_OUTCOMES = 60  # steps on either side, where it is
_LEVEL = 1e-3  # of the test of one pair of state and action
_FEWER = 3  # times fewer pairs, where it is
_RELABELLED = 50  # times, to see how far samples of one distribution are apart

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Deviation:
    """How steps from states and steps from their images differ, for the element where they differ most.

    What is compared are pairs of state and action, each once however often it was seen. The difference of a number is
    measured in units of its spread, the standard deviation of what a step changes of it. A difference of a whole
    number (a pixel, a ``Discrete`` value) or of an end is 1. Where outcomes vary, the difference is the probability of
    another outcome, their total variation distance.

    Attributes:
        element: Name of the group element that differs most.
        compared: Number of pairs compared for each element.
        broken: Share of the pairs whose steps differ by more than ``LARGEST_SIZE``; where outcomes vary, the mean
            probability of another outcome.
        unequal: Share of the pairs whose steps differ beyond rounding, or beyond chance.
        mean: Mean difference of a pair; none counts more than 1.
        largest: The largest difference.
        where: What differs most, in words.
        far: As ``broken``, in states that were drawn and not reached; ``None`` where none were drawn.
        chance: Whether outcomes vary.
    """

    element: str
    compared: int
    broken: float
    unequal: float
    mean: float
    largest: float
    where: str
    far: float | None = None
    chance: bool = False

    @property
    def nearly(self) -> bool:
        """Whether the symmetry nearly holds: at most ``LARGEST_SHARE`` of the pairs break it, there and far away.

        Not so if only states that rollouts do not reach break it: nobody knows how often a policy will meet them.
        """
        return max(self.broken, self.far or 0.0) <= LARGEST_SHARE and not (self.far and not self.unequal)

    def __str__(self) -> str:
        text = f"{self.unequal:.1%} of {self.compared:,} pairs of state and action differ from their images"
        if self.chance:
            text += (
                f" in how often outcomes come up, {_OUTCOMES} tries each: {self.broken:.1%} of all steps have another"
            )
        elif self.unequal:
            text += f", {self.broken:.1%} by more than {LARGEST_SIZE:.0%} of the spread"
        if self.unequal and not self.chance:
            text += f"; on average by {self.mean:.2g} of the spread, at most by {self.where}"
        if self.far is not None:
            text += f"; from states drawn from the bounds {self.far:.1%} break it"
        return f"{text} (element {self.element})"


def measure_deviation(
    environment: gym.Env[Any, Any], symmetry: MDPSymmetry, n: int = 300, seed: int = 0
) -> Deviation | None:
    """Return how far a symmetry is from holding in the states of random rollouts.

    Each generator is compared on all pairs, and so are a few other elements; the worst is returned.

    Args:
        environment: One whose states can be set, and whose observations show them; ``check_symmetry`` says whether.
        symmetry: Fits its spaces.
        n: Pairs of state and action to compare for each element.
        seed: Seed of states and actions.

    Returns:
        The deviation; ``None`` where the environment cannot be placed, or where outcomes are hardly ever the same
        twice.
    """
    return measure_deviations(environment, [symmetry], n, seed)[0]


def measure_deviations(
    environment: gym.Env[Any, Any], symmetries: Sequence[MDPSymmetry], n: int = 300, seed: int = 0
) -> list[Deviation | None]:
    """Return how far each of several symmetries is from holding, all in the states of the same rollouts.

    Args:
        environment: As for ``measure_deviation``.
        symmetries: Each fits its spaces.
        n: As there.
        seed: As there.
    """
    fitted, layout = fit_symmetry(symmetries[0], environment)
    world = PlacedWorld(environment, fitted, layout, np.random.default_rng(seed))
    measuring: _Measuring | None = None
    found: list[Deviation | None] = []
    for symmetry in symmetries:
        world.symmetry = fit_symmetry(symmetry, environment)[0]
        group = world.symmetry.group
        others = [g for g in range(group.order) if g != group.identity and g not in group.generators]
        elements = [*group.generators, *world.random.permutation(others)[:_OTHERS].tolist()]
        try:
            measuring = measuring or _Measuring(world, n)
            found.append(_worst([measuring.deviation(g) for g in elements]))
        except CannotPlace:
            found.append(None)
    return found


def _worst(found: Sequence[Deviation | None]) -> Deviation | None:
    """Return the largest deviation; ``None`` where one could not be measured."""
    told = [each for each in found if each is not None]
    if not told or len(told) < len(found):
        return None
    return max(told, key=lambda each: (not each.nearly, max(each.broken, each.far or 0.0), each.mean))


class _Measuring:
    """Compares the steps of one set of rollouts with their images under one element after the other."""

    def __init__(self, world: PlacedWorld, n: int) -> None:
        self._world = world
        rollouts = world.rollouts(n * _FURTHER if world.shows_all else n)
        pairs = {self._key(each): each for each in rollouts}
        chosen = world.random.permutation(len(pairs))[:n].tolist()
        self._seen = [list(pairs.values())[k] for k in chosen]
        far, _ = world.far_transitions(n // 2, rollouts)
        self._far = [t for t in far if self._restored(t)]
        self._chance = any(self._varies(t) for t in self._seen[:_REPEATED])
        self._placed = [world.steps(t, None, _OUTCOMES) for t in self._seen[: n // _FEWER]] if self._chance else []
        self._from = [] if self._chance else [world.step(t) for t in self._seen]  # once for all elements
        outcomes = [t.outcome for t in rollouts]
        before = world.layout.rows(world.layout.stack([o.start for o in outcomes]))
        after = world.rows(outcomes)
        size = before.shape[1]
        self._precision = np.concatenate([world.layout.precision(), world.row_precision()])
        spread = np.concatenate([before.std(0), (after[:, :size] - before).std(0), after[:, size : size + 1].std(0)])
        spread[: 2 * size][np.tile(world.layout.precision() == 0, 2)] = 0  # whole numbers: other ones, or the same
        self._spread = np.concatenate([spread, [0, 0]])
        self._size = size

    def deviation(self, g: int) -> Deviation | None:
        """Return the deviation under an element; ``None`` where outcomes are hardly ever the same twice."""
        name = self._world.symmetry.group.element_names[g]
        if self._chance:
            return self._by_chance(g, name)
        sizes, rows = self._compared(g, self._seen, self._from)
        far = None
        if self._far:
            there = self._compared(g, self._far, [self._world.step(t) for t in self._far])[0]
            far = float((there.max(1) > LARGEST_SIZE).mean())
        worst = sizes.max(1)
        k = int(worst.argmax())
        where = self._where(int(sizes[k].argmax()), float(worst[k]), rows[k])
        mean, unequal = float(np.minimum(worst, 1).mean()), float((worst > 0).mean())
        broken = float((worst > LARGEST_SIZE).mean())
        return Deviation(name, len(worst), broken, unequal, mean, float(worst.max()), where, far)

    def _key(self, transition: Transition) -> bytes:
        seen = self._world.layout.vector(transition.outcome.start)
        return seen.tobytes() + np.asarray(transition.action).tobytes()

    def _restored(self, transition: Transition) -> bool:
        """Say whether a step from a state that was drawn is what the environment itself did there."""
        try:
            placed = self._world.step(transition)
        except CannotPlace:
            return False
        rows = self._world.rows([placed, transition.outcome])
        return bool(np.allclose(rows[0], rows[1], rtol=1e-3, atol=1e-5))

    def _varies(self, transition: Transition) -> bool:
        rows = self._world.rows(self._world.steps(transition, None, _REPEATS))
        return bool((np.ptp(rows, axis=0) > resolution(rows, self._world.row_precision(), 1e-5)).any())

    def _compared(
        self, g: int, transitions: Sequence[Transition], placed: Sequence[Outcome]
    ) -> tuple[Floats, list[Floats]]:
        """Return the differences of each step ``[n, k]``, 0 for rounding, and both rows of each."""
        world = self._world
        pairs = [
            self._rows([*world.turned(g, [outcome]), world.step(transition, g)])
            for transition, outcome in zip(transitions, placed, strict=True)
        ]
        stacked = np.stack(pairs)
        gap = np.where(stacked[:, 0] == stacked[:, 1], 0, np.abs(stacked[:, 0] - stacked[:, 1]))
        gap[gap <= np.stack([resolution(pair, self._precision, 1e-5) for pair in pairs])] = 0
        return np.where(self._spread > 1e-9, gap / np.maximum(self._spread, 1e-9), gap > 0), pairs

    def _rows(self, outcomes: Sequence[Outcome]) -> Floats:
        layout = self._world.layout
        return np.concatenate(
            [layout.rows(layout.stack([o.start for o in outcomes])), self._world.rows(outcomes)], axis=1
        )

    def _where(self, entry: int, size: float, pair: Floats) -> str:
        """Name what differs most, with both values."""
        if entry < 2 * self._size:
            seen = "observation" if entry < self._size else "next observation"
            name = f"coordinate {self._world.layout.place(entry % self._size)} of the {seen}"
        else:
            name = ("the reward", "the end of the episode", "the cut of the episode")[entry - 2 * self._size]
        share = f"{size:.2g}: " if self._spread[entry] > 1e-9 else "1: "
        return f"{share}{name}, {pair[0, entry]:g} against {pair[1, entry]:g}"

    def _by_chance(self, g: int, name: str) -> Deviation | None:
        """Compare how often outcomes come up after each pair of state and action."""
        world = self._world
        apart, noise, statistic, freedom = [], [], [], []
        for transition, placed in zip(self._seen, self._placed, strict=False):
            first, second = world.rows(world.turned(g, placed)), world.rows(world.steps(transition, g, _OUTCOMES))
            sample = Sample.of(first, second, resolution(np.concatenate([first, second]), world.row_precision(), 1e-5))
            if not sample.few:
                return None
            apart.append(float(_apart(sample, sample.first[None])[0]))
            noise.append(float((_apart(sample, sample.relabelled(_RELABELLED, world.random)) ** 2).mean()))
            statistic.append(float(((2 * sample.first - sample.counts) ** 2 / sample.counts).sum()))
            freedom.append(len(sample.counts) - 1)
        # Chi-squared of two samples of one size; without freedom there is one outcome, and nothing to tell.
        tables = np.array([statistic, freedom])
        told = (tables[1] > 0) & (chdtrc(np.maximum(tables[1], 1), tables[0]) < _LEVEL)
        rest, quiet = 0.0, tables[:, ~told].sum(1)
        if quiet[1] > 0 and chdtrc(quiet[1], quiet[0]) < _LEVEL:
            # What is small everywhere shows in no pair; on average it does, where chance is taken off.
            rest = float(np.sqrt(max((np.square(apart) - noise)[~told].mean(), 0.0)))
        each = np.where(told, apart, rest)
        return Deviation(
            name,
            len(each),
            float(each.mean()),
            float(told.mean()),
            float(each.mean()),
            float(each.max()),
            "how often outcomes come up",
            chance=True,
        )


def _apart(sample: Sample, first: NDArray[np.int64]) -> Floats:
    """Return the total variation distances of first samples ``[n, k]`` from the rest."""
    other = sample.counts - first
    return np.asarray(np.abs(first / first.sum(1, keepdims=True) - other / other.sum(1, keepdims=True)).sum(1) / 2)
