"""Are the dynamics symmetric? Steps from ``s`` and ``gs``, compared exactly or by what comes up how often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from equirl.envs.outcome_tests import Sample, alike_test, pooled_test, resolution
from equirl.envs.placed_steps import CannotPlace, Outcome, PlacedWorld, Transition
from equirl.envs.symmetry_report import Violation
from equirl.envs.time_limit import fixed_length

__all__ = ["DynamicsCheck", "Finding"]

_REPEATS = 20  # of a step, to tell chance from a rule; and states in which a step is repeated in any case
_TESTED = 10  # differences looked at closely
_CERTAIN = 10  # steps that come out other than in the rollout, always the same way: no chance (2^-10)
_SCREENED = 100  # states looked at for the largest differences, where the dynamics are stochastic
_SCREENINGS = 5  # steps on either side for that
_STATES = 20  # states tested
_STATES_OF_MANY = 8  # states tested where hardly an outcome comes up twice: each is a larger test
_OUTCOMES = 200  # steps on either side in each
_MORE = 3  # times as many in the second round, where the first one was not clear
_EXPLAINED = 20  # steps that differ, from which the cause is found
_UNCLEAR = 0.05  # p-values below this one are looked at again


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        description: How it was done.
        violation: The first violation.
        skipped: Why it could not be done; empty if it was.
    """

    description: str
    violation: Violation | None = None
    skipped: str = ""


class DynamicsCheck:
    """Compares steps from the states of rollouts with steps from their transforms.

    Placing is checked too: a step from a placed state must give what the rollout saw. Where it does not, the
    observation hides something, or the placer is wrong, and nothing is said about the dynamics.

    Args:
        world: The environment, which can be placed.
        significance: Probability of a false alarm where the dynamics are stochastic.
        tolerance: Largest difference that counts as none.
    """

    def __init__(self, world: PlacedWorld, significance: float, tolerance: float) -> None:
        self._world = world
        self._significance = significance
        self._tolerance = tolerance
        self._precision = world.row_precision()
        self._limit: int | None = None

    def run(self, n: int) -> Finding:
        """Compare ``n`` transitions."""
        try:
            return self._run(n)
        except CannotPlace as reason:
            return Finding("dynamics", skipped=str(reason))

    def _run(self, n: int) -> Finding:
        world = self._world
        transitions = world.rollouts(n)
        self._limit = fixed_length(world.environment, transitions)
        broken: tuple[int, Transition, str] | None = None  # by a rule, and not symmetric
        elsewhere: list[tuple[Transition, str]] = []  # by a rule, and not what the rollout saw
        chance: list[tuple[Transition, int]] = []
        differing: list[tuple[Transition, int]] = []  # for the cause
        n_rules = 0
        for k, transition in enumerate(transitions):
            g = world.element()
            placed, moved = world.step(transition), world.step(transition, g)
            unlike = self._difference(self._seen(transition, placed), placed, ("rollout", "placed"))
            uneven = self._difference(world.turned(g, [placed])[0], moved)
            if not unlike and not uneven:
                if k < _REPEATS and self._varies(transition, placed, None, 5):
                    chance.append((transition, g))
            elif n_rules < _TESTED and (
                self._varies(transition, placed, None, _REPEATS)
                or (uneven and self._varies(transition, moved, g, _REPEATS))
            ):
                chance.append((transition, g))
            else:
                n_rules += 1
                if unlike and (n_rules > _TESTED or not self._is_rounding(transition, placed)):
                    elsewhere.append((transition, unlike))
                if uneven and len(differing) < _EXPLAINED:
                    differing.append((transition, g))
                if uneven and broken is None and not self._is_rounding(transition, placed, (g, moved)):
                    broken = g, transition, uneven
            if len(chance) == _TESTED:
                break
        if elsewhere and not chance:
            if reason := self._hidden(elsewhere):
                return Finding("dynamics", skipped=reason)
            chance = [(transition, world.element()) for transition, _ in elsewhere]
        if chance:
            return self._stochastic(transitions, chance + ([] if broken is None else [(broken[1], broken[0])]))
        beyond = ""
        if broken is None:
            beyond, broken = self._far(n, transitions)
        power = f"would find what breaks {3 / n:.2g} of such steps, 19 times in 20"
        description = f"dynamics: {n} transitions{beyond}, deterministic, tolerance {self._tolerance:g}; {power}"
        if broken is not None:
            g, transition, detail = broken
            same = [(each, element) for each, element in differing if element == g]
            cause = world.explain(g, lambda: all(self._agrees(each, element) for each, element in same))
            return Finding(description, replace(self._violation(g, detail, transition), cause=cause))
        remark = world.remark()
        return Finding(f"{description}; {remark}" if remark else description)

    def _agrees(self, transition: Transition, g: int) -> bool:
        """Say whether a step and its transform agree."""
        world = self._world
        return not self._difference(world.turned(g, [world.step(transition)])[0], world.step(transition, g))

    def _far(self, n: int, seen: Sequence[Transition]) -> tuple[str, tuple[int, Transition, str] | None]:
        """Compare steps from states that random actions may not reach; say how many, and return one that is uneven.

        A state from which the environment itself went on otherwise than from where it is placed proves nothing.
        """
        world, compared = self._world, 0
        transitions, n_refused = world.far_transitions(n // 2, seen)
        broken = None
        for transition in transitions:
            g = world.element()
            try:
                placed, moved = world.step(transition), world.step(transition, g)
            except CannotPlace:
                n_refused += 1
                continue
            if self._difference(transition.outcome, placed) and not self._is_rounding(transition, placed):
                continue
            compared += 1
            uneven = self._difference(world.turned(g, [placed])[0], moved)
            if uneven and not self._is_rounding(transition, placed, (g, moved)):
                if self._varies(transition, placed, None, _REPEATS) or self._varies(transition, moved, g, _REPEATS):
                    continue
                broken = (g, transition, uneven)
                break
        told = f" and {compared} from states drawn from its bounds" if compared else ""
        refused = f" ({n_refused} more that were drawn are no states of it)" if n_refused else ""
        return f"{told}{refused}", broken

    def _varies(self, transition: Transition, first: Outcome, g: int | None, n: int) -> bool:
        """Say whether a step comes out differently in ``n`` more tries."""
        return any(self._difference(first, self._world.step(transition, g)) for _ in range(n))

    def _seen(self, transition: Transition, placed: Outcome) -> Outcome:
        """Return what the rollout saw, without an end by the time limit, which no placed state is near."""
        outcome = transition.outcome
        if outcome.ended and not placed.ended and transition.length == self._limit:
            return replace(outcome, terminated=False, truncated=False)
        return outcome

    def _is_rounding(self, transition: Transition, placed: Outcome, moved: tuple[int, Outcome] | None = None) -> bool:
        """Say whether a difference is no larger than what the last bits of the observed state make.

        The state is known to the precision of its observation only. So the floats of the observation are moved by one
        last bit, a few times, and a difference within a few times of what that changes is none.
        """
        world = self._world
        if (
            transition.environment is not None
            or transition.saved is not None
            or world.layout.nudge(transition.observation, world.random) is None
        ):
            return False
        nudged = [placed, *(world.step(transition, nudge=True) for _ in range(8))]
        if moved is None:
            expected, candidates = self._seen(transition, placed), nudged
        else:
            expected, candidates = moved[1], world.turned(moved[0], nudged)
        rows = world.rows(candidates)
        slack = np.minimum(4 * np.ptp(rows, axis=0), 1e-3 * np.maximum(1, np.abs(rows[0])))
        return any(not self._difference(expected, each, slack=slack) for each in candidates)

    def _hidden(self, elsewhere: Sequence[tuple[Transition, str]]) -> str:
        """Return why placing does not restore the states; empty where the differences may be rare chance."""
        transition, detail = elsewhere[0]
        where = f"after {transition.length} steps of an episode, action {self._world.numbered(transition.action)}"
        reason = (
            f"placing the environment does not give the state that the rollout was in ({where}: {detail}). The "
            "observation hides something, or the placer is not right for this environment"
        )
        if len(elsewhere) >= _CERTAIN:
            return reason
        for transition, _ in elsewhere[:3]:
            for _ in range(5):
                replayed = self._world.replay(transition)
                if replayed is None or self._difference(transition.outcome, replayed):
                    break
            else:
                return reason
        return "" if self._world.replay(elsewhere[0][0]) is not None else reason

    def _stochastic(self, transitions: Sequence[Transition], suspects: Sequence[tuple[Transition, int]]) -> Finding:
        world = self._world
        drawn = [transitions[int(k)] for k in world.random.permutation(len(transitions))[:_SCREENED]]
        screened = [*drawn, *(t for t, _ in suspects)]
        elements = [*(world.element() for _ in drawn), *(g for _, g in suspects)]
        placed = [world.steps(t, None, _SCREENINGS) for t in screened]
        moved = [world.steps(t, g, _SCREENINGS) for t, g in zip(screened, elements, strict=True)]
        if reason := self._unlike(drawn, placed):
            return Finding("dynamics", skipped=reason)
        fixed = self._resolution([o for outcomes in [*placed, *moved] for o in outcomes])
        samples = [
            Sample.of(world.rows(world.turned(g, first)), world.rows(second), fixed)
            for g, first, second in zip(elements, placed, moved, strict=True)
        ]
        many = float(np.mean([len(sample.counts) for sample in samples])) > _SCREENINGS
        n_states = min(len(screened), _STATES_OF_MANY if many else _STATES)
        # Half of the states are those where a few steps differed most; the tests use new steps.
        gaps = np.array([sample.statistics(sample.first[None])[0][0] for sample in samples])
        likely = np.argsort(-gaps, kind="stable")[: n_states // 2].tolist()
        others = [int(k) for k in world.random.permutation(len(screened)) if int(k) not in likely]
        chosen = [*likely, *others][:n_states]
        shifts = [2 * math.sqrt(2 / (_OUTCOMES * k)) for k in (n_states, 1)]  # four standard errors at p = 1/2
        description = (
            f"dynamics: {n_states} of {len(screened)} states, stochastic, {_OUTCOMES} steps each, significance "
            f"{self._significance:g}; would find a probability that is off by {shifts[0]:.2g} in all states, or by "
            f"{shifts[1]:.2g} in one of them"
        )
        level = self._significance / 2  # for each round
        for n in (_OUTCOMES, _MORE * _OUTCOMES):
            compared = []
            for k in chosen:
                first = world.turned(elements[k], world.steps(screened[k], None, n))
                second = world.steps(screened[k], elements[k], n)
                compared.append(Sample.of(world.rows(first), world.rows(second), self._resolution([*first, *second])))
            p = pooled_test(compared, world.random, level)
            if p < level:
                worst = int(np.argmax([sample.statistics(sample.first[None])[0][0] for sample in compared]))
                detail = f"outcomes of the step and of the transformed step differ, p = {p:.2g} over {n_states} states"
                return Finding(description, self._violation(elements[chosen[worst]], detail, screened[chosen[worst]]))
            if p > _UNCLEAR or many:
                break
        return Finding(description)

    def _unlike(self, transitions: Sequence[Transition], placed: Sequence[Sequence[Outcome]]) -> str:
        """Return why placing does not restore the states of stochastic rollouts; empty where it seems to."""
        world = self._world
        groups = []
        for transition, outcomes in zip(transitions, placed, strict=False):
            seen = transition.outcome
            if seen.ended and transition.length == self._limit:
                continue  # the time limit, which no placed state is near
            groups.append(world.rows([seen, *outcomes]))
        if not groups:
            return ""
        stacked = np.stack(groups)
        fixed = resolution(stacked.reshape(-1, stacked.shape[-1]), self._precision, self._tolerance)
        p = alike_test(stacked, world.random, fixed)
        if p >= self._significance:
            return ""
        return (
            f"steps from placed states do not come out as in the rollouts, p = {p:.2g}. The observation hides "
            "something, or the placer is not right for this environment"
        )

    def _resolution(self, outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
        return resolution(self._world.rows(outcomes), self._precision, self._tolerance)

    def _difference(
        self,
        expected: Outcome,
        actual: Outcome,
        names: tuple[str, str] | None = None,
        slack: NDArray[np.float64] | None = None,
    ) -> str:
        """Say where two outcomes differ; empty where they are the same.

        Args:
            expected: From ``s``, turned, or from the rollout.
            actual: From ``gs``, or from the placed state.
            names: What to call the two; by default the steps from ``s`` and ``gs``.
            slack: What each entry of a row may differ by beyond the tolerance.
        """
        world = self._world
        one, other = names or ("g step(s, a)", "step(gs, ga)")
        left, right = (f"r(s, a), {names[0]},", f"r(s, a), {names[1]},") if names else ("r(s, a)", "r(gs, ga)")
        layout = world.layout
        size = len(self._precision) - 3
        starts = np.stack([layout.vector(expected.start), layout.vector(actual.start)])
        if i := self._apart(starts, None):
            pair = starts[:, i - 1]
            where = layout.place(i - 1)
            return f"observation: g o(s) has {pair[0]:g}, o(gs) has {pair[1]:g} at coordinate {where}"
        rows = world.rows([expected, actual])
        if i := self._apart(rows[:, :size], None if slack is None else slack[:size]):
            pair, where = rows[:, i - 1], layout.place(i - 1)
            return f"next observation: {one} has {pair[0]:g}, {other} has {pair[1]:g} at coordinate {where}"
        if self._apart(rows[:, size : size + 1], None if slack is None else slack[size : size + 1], size):
            return f"reward: {left} = {expected.reward:g}, {right} = {actual.reward:g}"
        after = names or ("(s, a)", "(gs, ga)")
        if expected.terminated != actual.terminated:
            return f"end of the episode: {expected.terminated} after {after[0]}, {actual.terminated} after {after[1]}"
        if expected.truncated != actual.truncated:
            return f"cut of the episode: {expected.truncated} after {after[0]}, {actual.truncated} after {after[1]}"
        return ""

    def _apart(self, pair: NDArray[np.float64], slack: NDArray[np.float64] | None, first: int = 0) -> int:
        """Return one more than the coordinate with the largest difference, or 0 where all are the same."""
        if not pair.shape[1] or np.array_equal(pair[0], pair[1]):
            return 0
        allowed = resolution(pair, self._precision[first : first + pair.shape[1]], self._tolerance)
        gap = np.where(pair[0] == pair[1], 0, np.abs(pair[0] - pair[1])) - allowed
        gap = gap if slack is None else gap - slack
        return int(gap.argmax()) + 1 if gap.max() > 0 else 0

    def _violation(self, g: int, detail: str, transition: Transition) -> Violation:
        name = self._world.symmetry.group.element_names[g]
        return Violation("dynamics", name, detail, transition.observation, self._world.numbered(transition.action))
