"""Does an environment have the symmetry one is about to rely on? What SB3's ``check_env`` is for the API."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.placing import find_placer, find_transformable, transform_state
from equirl.symmetry import MDPSymmetry, build_symmetry

__all__ = ["SymmetryReport", "Violation", "check_symmetry"]

_PERMUTATIONS = (4999, 49_999)  # at least and at most; p-values go down to one over that
_OUTCOMES = 200  # steps from one state and action, where the dynamics are stochastic
_REPEATS = 2000  # steps before a difference between two of them counts as no chance
_FEW_OUTCOMES = 40  # of both together: a chi-square test then has enough of each; more go to a permutation test
_STATES = 20  # tested where the dynamics are stochastic
_STATES_BY_PERMUTATION = 4  # of them with many outcomes


@dataclass(frozen=True)
class Violation:
    """The first place where a check failed.

    Attributes:
        check: ``"spaces"``, ``"dynamics"`` or ``"start distribution"``.
        element: Name of the group element.
        detail: What differs, with both values.
        observation: The state, as observed, where one state shows it.
        action: The action taken there.
    """

    check: str
    element: str
    detail: str
    observation: NDArray[Any] | None = None
    action: int | None = None

    def __str__(self) -> str:
        where = ""
        if self.observation is not None:
            seen = np.array2string(self.observation, threshold=400, precision=4, separator=",").replace("\n", "\n    ")
            where = f"\n  action {self.action}, in the state\n    {seen}"
        return f"{self.check}, element {self.element}: {self.detail}{where}"


@dataclass(frozen=True)
class SymmetryReport:
    """What ``check_symmetry`` found.

    Attributes:
        symmetry: Name of the symmetry.
        passed: One line for each check that passed, with how it was done.
        skipped: One line for each check that could not be done, with the reason.
        violations: The first violation of each check that failed.
    """

    symmetry: str
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    violations: tuple[Violation, ...]

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.violations

    def __str__(self) -> str:
        lines = [f"passed   {line}" for line in self.passed]
        lines += [f"skipped  {line}" for line in self.skipped]
        lines += [f"VIOLATED {violation}" for violation in self.violations]
        verdict = "holds as far as checked" if self.ok else "does not hold"
        return "\n".join([*lines, f"symmetry {self.symmetry!r} {verdict}"])


def check_symmetry(
    environment: gym.Env[Any, Any],
    symmetry: str | MDPSymmetry,
    *,
    n_transitions: int = 500,
    n_resets: int = 600,
    significance: float = 0.001,
    tolerance: float = 1e-5,
    check_starts: bool = True,
    seed: int = 0,
) -> SymmetryReport:
    """Check that an environment has a symmetry: spaces, dynamics with rewards and ends, and starts.

    **Dynamics**, ``p(gs', r | gs, ga) = p(s', r | s, a)``: states from random rollouts; the environment is put into
    ``s`` and into ``gs`` and stepped with ``a`` and ``ga``. It is put there by its placer (``register_placer``), or by
    its ``transform_state`` where an observation does not show the whole state; without either the check is skipped, and
    said so. Deterministic dynamics are compared exactly, to ``tolerance``; stochastic ones by the outcomes from a few
    states, 200 steps each: a chi-square test where there are few outcomes, the test used for starts where there are
    many.

    **Starts**: first observations against transformed first observations of other resets, by a permutation test of
    their energy distance (Székely and Rizzo 2013) for each generator of the group.

    Statistical tests share ``significance`` (Bonferroni), so a symmetric environment fails with at most twice that
    probability.

    Args:
        environment: A Gymnasium environment with array observations and ``Discrete`` actions.
        symmetry: A registered name or an ``MDPSymmetry``.
        n_transitions: Transitions to compare.
        n_resets: Resets for the start test, half of them for each sample.
        significance: Probability of a false alarm in the statistical tests.
        tolerance: Largest absolute difference of observations and rewards.
        check_starts: Whether the starts are to be symmetric too.
        seed: Seed of states, actions and group elements.

    Returns:
        The report; ``report.ok`` says whether all checks passed.

    Raises:
        TypeError: Observations are no array, or actions are not ``Discrete``.
        ValueError: Unknown symmetry, or one that does not fit the spaces.
    """
    observation_space, action_space = environment.observation_space, environment.action_space
    if not isinstance(observation_space, spaces.Box) or not isinstance(action_space, spaces.Discrete):
        raise TypeError(
            f"check_symmetry takes Box observations and Discrete actions; got {observation_space} and {action_space}"
        )
    shape, n_actions = tuple(observation_space.shape), int(action_space.n)
    if isinstance(symmetry, str):
        symmetry = build_symmetry(symmetry, shape, n_actions)
    symmetry.check_fits(shape, n_actions)
    if n_transitions < 1 or n_resets < 20 or not 0 < significance < 1:
        raise ValueError(
            "at least 1 transition and 20 resets, and a significance between 0 and 1, make a check; got "
            f"{n_transitions}, {n_resets} and {significance}"
        )
    check = _Check(environment, symmetry, significance, tolerance, np.random.default_rng(seed))
    passed, skipped, violations = [], [], []
    results: list[tuple[str, Violation | None]] = [("spaces: bounds map to bounds", check.spaces())]
    if find_placer(environment) is None and find_transformable(environment) is None:
        skipped.append(
            f"dynamics: {type(environment.unwrapped).__name__} cannot be placed in a state; see register_placer"
        )
    else:
        results.append(check.dynamics(n_transitions))
    if check_starts:
        results.append((f"start distribution: {n_resets} resets, significance {significance}", check.starts(n_resets)))
    for description, violation in results:
        if violation is None:
            passed.append(description)
        else:
            violations.append(violation)
    return SymmetryReport(symmetry.name, tuple(passed), tuple(skipped), tuple(violations))


@dataclass(frozen=True)
class _Transition:
    observation: NDArray[Any]
    action: int
    environment: gym.Env[Any, Any] | None  # a copy, where the observation does not show the state


@dataclass(frozen=True)
class _Outcome:
    start: NDArray[Any]
    observation: NDArray[Any]
    reward: float
    terminated: bool


class _Check:
    """One environment and one symmetry under check."""

    def __init__(
        self,
        environment: gym.Env[Any, Any],
        symmetry: MDPSymmetry,
        significance: float,
        tolerance: float,
        random: np.random.Generator,
    ) -> None:
        self._environment = environment
        self._symmetry = symmetry
        self._significance = significance
        self._tolerance = tolerance
        self._random = random
        order = symmetry.group.order
        self._elements = [g for g in range(order) if g != symmetry.group.identity]

    def spaces(self) -> Violation | None:
        """Check that each element maps the box of observations onto itself."""
        space = cast(spaces.Box, self._environment.observation_space)
        # Infinite bounds stay infinite; a finite stand-in keeps 0 * inf out.
        low, high = (
            np.nan_to_num(bound.astype(np.float64), posinf=1e300, neginf=-1e300) for bound in (space.low, space.high)
        )
        for g in self._elements:
            corners = np.sort(np.stack([self._turn(g, low), self._turn(g, high)]), axis=0)
            if not np.allclose(corners, np.stack([low, high])):
                i = np.unravel_index(int(np.abs(corners - np.stack([low, high])).max(axis=0).argmax()), low.shape)
                return self._violation(
                    "spaces",
                    g,
                    f"coordinate {tuple(int(k) for k in i)} has bounds [{low[i]:g}, {high[i]:g}], its image "
                    f"[{corners[0][i]:g}, {corners[1][i]:g}]",
                )
        return None

    def dynamics(self, n_transitions: int) -> tuple[str, Violation | None]:
        """Compare steps from ``s`` and ``gs``; return how it was done and the first violation."""
        transitions = list(self._rollouts(n_transitions))
        if any(self._varies(transition, 20 if k == 0 else 5) for k, transition in enumerate(transitions[:20])):
            return self._stochastic_dynamics(transitions)
        description = f"dynamics: {n_transitions} transitions, deterministic, tolerance {self._tolerance:g}"
        for transition in transitions:
            g = int(self._random.choice(self._elements)) if self._elements else self._symmetry.group.identity
            expected, actual = self._step(transition), self._step(transition, g)
            if detail := self._difference(self._turned(g, expected), actual):
                if self._varies(transition, _REPEATS) or self._varies(transition, _REPEATS, g):
                    return self._stochastic_dynamics(transitions, first=transition)  # rarely, but it does
                return description, self._violation("dynamics", g, detail, transition)
        return description, None

    def _varies(self, transition: _Transition, n: int, g: int | None = None) -> bool:
        return len({self._outcome_key(self._step(transition, g)) for _ in range(n)}) > 1

    def starts(self, n_resets: int) -> Violation | None:
        """Test first observations against transformed first observations."""
        group = self._symmetry.group
        observations = np.stack([self._environment.reset(seed=self._seed())[0] for _ in range(n_resets)])
        half = n_resets // 2
        for g in group.generators:
            turned = self._turn_batch(g, observations[half:])
            level = self._significance / len(group.generators)
            p = _energy_test(observations[:half], turned, self._random, level)
            if p < level:
                return self._violation(
                    "start distribution", g, f"first observations and their images differ, p = {p:.4f}"
                )
        return None

    def _stochastic_dynamics(
        self, transitions: list[_Transition], first: _Transition | None = None
    ) -> tuple[str, Violation | None]:
        n_states = max(1, min(len(transitions), _STATES))
        chosen = [transitions[int(k)] for k in self._random.choice(len(transitions), size=n_states, replace=False)]
        if first is not None:
            chosen[0] = first
        description = (
            f"dynamics: {n_states} states, stochastic, {_OUTCOMES} steps each, significance {self._significance}"
        )
        by_permutation = 0
        for transition in chosen:
            g = int(self._random.choice(self._elements)) if self._elements else self._symmetry.group.identity
            expected = [self._turned(g, self._step(transition)) for _ in range(_OUTCOMES)]
            actual = [self._step(transition, g) for _ in range(_OUTCOMES)]
            few = len({self._outcome_key(outcome) for outcome in [*expected, *actual]}) <= _FEW_OUTCOMES
            if not few and by_permutation == _STATES_BY_PERMUTATION:
                continue  # a permutation test costs too much to do many times at their level
            by_permutation += not few
            # Half of the significance for either kind of test, whichever turns out to be needed.
            level = self._significance / 2 / (n_states if few else _STATES_BY_PERMUTATION)
            p = self._same_outcomes(expected, actual, few, level)
            if p < level:
                detail = f"outcomes of the step and of the transformed step differ, p = {p:.2g}"
                return description, self._violation("dynamics", g, detail, transition)
        return description, None

    def _same_outcomes(self, expected: list[_Outcome], actual: list[_Outcome], few: bool, level: float) -> float:
        """Return the p-value of a test that both samples come from one distribution."""
        if not few:
            first, second = (
                np.stack([np.append(o.observation.ravel(), [o.reward, o.terminated]) for o in outcomes])
                for outcomes in (expected, actual)
            )
            return _energy_test(first, second, self._random, level)
        counts: dict[Any, list[int]] = {}
        for sample, outcomes in enumerate((expected, actual)):
            for outcome in outcomes:
                counts.setdefault(self._outcome_key(outcome), [0, 0])[sample] += 1
        if len(counts) == 1:
            return 1.0
        from scipy.stats import chi2_contingency  # a second to import, which only this check needs

        return float(chi2_contingency(np.array(list(counts.values())).T).pvalue)

    def _rollouts(self, n: int) -> Iterator[_Transition]:
        done, observation = True, np.zeros(0)
        # Where the observation does not show the state, the state is a copy of the whole environment.
        keep_copy = find_transformable(self._environment) is not None
        for _ in range(n):
            if done:
                observation, _ = self._environment.reset(seed=self._seed())
            action = int(self._random.integers(self._symmetry.n_actions))
            yield _Transition(observation, action, copy.deepcopy(self._environment) if keep_copy else None)
            observation, _, terminated, truncated, _ = self._environment.step(action)
            done = bool(terminated or truncated)

    def _step(self, transition: _Transition, g: int | None = None) -> _Outcome:
        """Take the transition's action in its state, or ``ga`` in ``gs``."""
        element = self._symmetry.group.identity if g is None else g
        if transition.environment is None:
            environment = self._environment
            environment.reset(seed=self._seed())
        else:
            environment = copy.deepcopy(transition.environment)
            environment.unwrapped.np_random = np.random.default_rng(self._seed())
        start = transform_state(environment, self._symmetry, element, transition.observation)
        seen, reward, terminated, _, _ = environment.step(self._turn_action(element, transition.action))
        return _Outcome(start, np.asarray(seen), float(cast(float, reward)), bool(terminated))

    def _turned(self, g: int, outcome: _Outcome) -> _Outcome:
        return replace(outcome, start=self._turn(g, outcome.start), observation=self._turn(g, outcome.observation))

    def _difference(self, expected: _Outcome, actual: _Outcome) -> str:
        for what, left, right in (
            ("observation: g o(s) has {}, o(gs) has {}", expected.start, actual.start),
            ("next observation: g step(s, a) has {}, step(gs, ga) has {}", expected.observation, actual.observation),
        ):
            gap = np.abs(left.astype(np.float64) - right.astype(np.float64))
            if gap.max() > self._tolerance:
                i = np.unravel_index(int(gap.argmax()), gap.shape)
                where = tuple(int(k) for k in i)
                return f"{what.format(f'{left[i]:g}', f'{right[i]:g}')} at coordinate {where}"
        if abs(expected.reward - actual.reward) > self._tolerance:
            return f"reward: r(s, a) = {expected.reward:g}, r(gs, ga) = {actual.reward:g}"
        if expected.terminated != actual.terminated:
            return f"end of the episode: {expected.terminated} after (s, a), {actual.terminated} after (gs, ga)"
        return ""

    def _outcome_key(self, outcome: _Outcome) -> tuple[bytes, float, bool]:
        rounded = (np.round(outcome.observation.astype(np.float64), 6) + 0.0).tobytes()
        return rounded, round(outcome.reward, 6), outcome.terminated

    def _turn(self, g: int, observation: NDArray[Any]) -> NDArray[Any]:
        turned: NDArray[Any] = self._turn_batch(g, observation[None])[0]
        return turned

    def _turn_batch(self, g: int, observations: NDArray[Any]) -> NDArray[Any]:
        turned = self._symmetry.observation.apply(g, torch.from_numpy(observations))
        return np.asarray(cast(torch.Tensor, turned).numpy())

    def _turn_action(self, g: int, action: int) -> int:
        return int((self._symmetry.action.index[g] == action).nonzero()[0])

    def _seed(self) -> int:
        return int(self._random.integers(2**31))

    def _violation(self, check: str, g: int, detail: str, transition: _Transition | None = None) -> Violation:
        name = self._symmetry.group.element_names[g]
        if transition is None:
            return Violation(check, name, detail)
        return Violation(check, name, detail, transition.observation, transition.action)


def _energy_test(first: NDArray[Any], second: NDArray[Any], random: np.random.Generator, level: float) -> float:
    """Return the p-value of the permutation test of equal distributions by the energy distance.

    With so many permutations that p-values well below ``level`` can come out.
    """
    least, most = _PERMUTATIONS
    permutations = max(least, int(np.ceil(4 / level)))
    if permutations > most:
        raise ValueError(
            f"a significance this small takes {permutations:,} permutations for one test; at most {most:,} are done. "
            "Choose a larger significance (0.001 is the default)"
        )
    from scipy.spatial.distance import cdist  # as above

    rows = np.concatenate([first, second]).reshape(len(first) + len(second), -1).astype(np.float64)
    scale = rows.std(axis=0)
    distances = cdist(rows / np.where(scale > 0, scale, 1), rows / np.where(scale > 0, scale, 1))
    labels = np.ones((permutations + 1, len(rows)))
    labels[0, len(first) :] = -1
    for k in range(1, permutations + 1):
        labels[k] = random.permutation(labels[0])
    weights = np.where(labels > 0, 1 / len(first), -1 / len(second))
    # 2 E|X - Y| - E|X - X'| - E|Y - Y'| = -w' D w with weights 1/n on one sample and -1/m on the other
    statistics = -np.einsum("ki,ki->k", weights @ distances, weights)
    return float((statistics >= statistics[0] - 1e-12).mean())
