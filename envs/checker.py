"""Does an environment have the symmetry one is about to rely on? What SB3's ``check_env`` is for the API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.placing import Placer, find_placer
from equirl.symmetry import MDPSymmetry, build_symmetry

__all__ = ["SymmetryReport", "Violation", "check_symmetry"]

_PERMUTATIONS = 4999  # p-values down to 1/5000
_OUTCOMES = 200  # steps from one state and action, where the dynamics are stochastic


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

    **Dynamics**, ``p(gs', r | gs, ga) = p(s', r | s, a)``: states from random rollouts; the environment is placed in
    ``s`` and in ``gs`` (``register_placer`` tells how; without it the check is skipped, and said so) and stepped with
    ``a`` and ``ga``. Deterministic dynamics are compared exactly, to ``tolerance``; stochastic ones by a chi-square
    test of the outcomes from a few states, 200 steps each.

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
    check = _Check(environment, symmetry, significance, tolerance, np.random.default_rng(seed))
    passed, skipped, violations = [], [], []
    placer = find_placer(environment)
    results: list[tuple[str, Violation | None]] = [("spaces: bounds map to bounds", check.spaces())]
    if placer is None:
        skipped.append(
            f"dynamics: {type(environment.unwrapped).__name__} cannot be placed in a state; see register_placer"
        )
    else:
        results.append(check.dynamics(placer, n_transitions))
    if check_starts:
        results.append((f"start distribution: {n_resets} resets, significance {significance}", check.starts(n_resets)))
    for description, violation in results:
        if violation is None:
            passed.append(description)
        else:
            violations.append(violation)
    return SymmetryReport(symmetry.name, tuple(passed), tuple(skipped), tuple(violations))


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

    def dynamics(self, placer: Placer, n_transitions: int) -> tuple[str, Violation | None]:
        """Compare steps from ``s`` and ``gs``; return how it was done and the first violation."""
        transitions = list(self._rollouts(n_transitions))
        outcomes = {self._outcome_key(self._step(placer, *transitions[0])) for _ in range(20)}
        for observation, action in transitions[:20]:
            outcomes_here = {self._outcome_key(self._step(placer, observation, action)) for _ in range(5)}
            outcomes = max(outcomes, outcomes_here, key=len)
        if len(outcomes) > 1:
            return self._stochastic_dynamics(placer, transitions)
        description = f"dynamics: {n_transitions} transitions, deterministic, tolerance {self._tolerance:g}"
        for observation, action in transitions:
            g = int(self._random.choice(self._elements)) if self._elements else self._symmetry.group.identity
            expected = self._step(placer, observation, action)
            actual = self._step(placer, self._turn(g, observation), self._turn_action(g, action))
            if detail := self._difference((self._turn(g, expected[0]), *expected[1:]), actual):
                return description, self._violation("dynamics", g, detail, observation, action)
        return description, None

    def starts(self, n_resets: int) -> Violation | None:
        """Test first observations against transformed first observations."""
        group = self._symmetry.group
        observations = np.stack([self._environment.reset(seed=self._seed())[0] for _ in range(n_resets)])
        half = n_resets // 2
        for g in group.generators:
            turned = self._turn_batch(g, observations[half:])
            p = _energy_test(observations[:half], turned, self._random)
            if p < self._significance / len(group.generators):
                return self._violation(
                    "start distribution", g, f"first observations and their images differ, p = {p:.4f}"
                )
        return None

    def _stochastic_dynamics(
        self, placer: Placer, transitions: list[tuple[NDArray[Any], int]]
    ) -> tuple[str, Violation | None]:
        n_states = max(1, min(len(transitions), 20))
        description = (
            f"dynamics: {n_states} states, stochastic, {_OUTCOMES} steps each, significance {self._significance}"
        )
        for k in self._random.choice(len(transitions), size=n_states, replace=False):
            observation, action = transitions[int(k)]
            g = int(self._random.choice(self._elements))
            turned, turned_action = self._turn(g, observation), self._turn_action(g, action)
            counts: dict[Any, list[int]] = {}
            for _ in range(_OUTCOMES):
                seen, reward, end = self._step(placer, observation, action)
                counts.setdefault(self._outcome_key((self._turn(g, seen), reward, end)), [0, 0])[0] += 1
                counts.setdefault(self._outcome_key(self._step(placer, turned, turned_action)), [0, 0])[1] += 1
            from scipy.stats import chi2_contingency  # a second to import, which only this check needs

            table = np.array(list(counts.values())).T
            p = 1.0 if table.shape[1] == 1 else float(chi2_contingency(table).pvalue)
            if p < self._significance / n_states:
                detail = f"outcomes of the step and of the transformed step differ, p = {p:.2g}"
                return description, self._violation("dynamics", g, detail, observation, action)
        return description, None

    def _rollouts(self, n: int) -> Iterator[tuple[NDArray[Any], int]]:
        done, observation = True, np.zeros(0)
        for _ in range(n):
            if done:
                observation, _ = self._environment.reset(seed=self._seed())
            action = int(self._random.integers(self._symmetry.n_actions))
            yield observation, action
            observation, _, terminated, truncated, _ = self._environment.step(action)
            done = bool(terminated or truncated)

    def _step(self, placer: Placer, observation: NDArray[Any], action: int) -> tuple[NDArray[Any], float, bool]:
        self._environment.reset(seed=self._seed())
        placer(self._environment, observation)
        seen, reward, terminated, _, _ = self._environment.step(action)
        return np.asarray(seen), float(reward), bool(terminated)

    def _difference(self, expected: tuple[NDArray[Any], float, bool], actual: tuple[NDArray[Any], float, bool]) -> str:
        gap = np.abs(expected[0].astype(np.float64) - actual[0].astype(np.float64))
        if gap.max() > self._tolerance:
            i = np.unravel_index(int(gap.argmax()), gap.shape)
            return (
                f"next observation, coordinate {tuple(int(k) for k in i)}: g step(s, a) has {expected[0][i]:g}, "
                f"step(gs, ga) has {actual[0][i]:g}"
            )
        if abs(expected[1] - actual[1]) > self._tolerance:
            return f"reward: r(s, a) = {expected[1]:g}, r(gs, ga) = {actual[1]:g}"
        if expected[2] != actual[2]:
            return f"end of the episode: {expected[2]} after (s, a), {actual[2]} after (gs, ga)"
        return ""

    def _outcome_key(self, outcome: tuple[NDArray[Any], float, bool]) -> tuple[bytes, float, bool]:
        return (np.round(outcome[0].astype(np.float64), 6) + 0.0).tobytes(), round(outcome[1], 6), outcome[2]

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

    def _violation(
        self, check: str, g: int, detail: str, observation: NDArray[Any] | None = None, action: int | None = None
    ) -> Violation:
        return Violation(check, self._symmetry.group.element_names[g], detail, observation, action)


def _energy_test(first: NDArray[Any], second: NDArray[Any], random: np.random.Generator) -> float:
    """Return the p-value of the permutation test of equal distributions by the energy distance."""
    from scipy.spatial.distance import cdist  # as above

    rows = np.concatenate([first, second]).reshape(len(first) + len(second), -1).astype(np.float64)
    scale = rows.std(axis=0)
    distances = cdist(rows / np.where(scale > 0, scale, 1), rows / np.where(scale > 0, scale, 1))
    labels = np.ones((_PERMUTATIONS + 1, len(rows)))
    labels[0, len(first) :] = -1
    for k in range(1, _PERMUTATIONS + 1):
        labels[k] = random.permutation(labels[0])
    weights = np.where(labels > 0, 1 / len(first), -1 / len(second))
    # 2 E|X - Y| - E|X - X'| - E|Y - Y'| = -w' D w with weights 1/n on one sample and -1/m on the other
    statistics = -np.einsum("ki,ki->k", weights @ distances, weights)
    return float((statistics >= statistics[0] - 1e-12).mean())
