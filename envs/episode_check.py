"""Are whole episodes symmetric? A test without placing: it finds violations, and cannot show that there are none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from equirl.envs.actions import Action
from equirl.envs.observations import Observation
from equirl.envs.outcome_tests import Rows, Sample, pooled_test, resolution
from equirl.envs.placed_steps import PlacedWorld
from equirl.envs.placing import Hiding, find_transformable
from equirl.envs.symmetry_report import Violation

__all__ = ["episode_violation", "hidden_start_violation", "start_violation"]

_STEPS = 5
_LEAST = 8  # episodes with one action


def start_violation(world: PlacedWorld, n: int, significance: float) -> Violation | None:
    """Test first observations against transformed first observations of other resets, for each generator.

    Args:
        world: The environment.
        n: Resets, half of them for each sample.
        significance: Probability of a false alarm, for all generators together.
    """
    layout = world.layout
    seen = [world.shown(world.reset()) for _ in range(n)]
    first, second = (layout.stack([seen[int(k)] for k in part]) for part in _halves(world, n))

    def rows(g: int) -> tuple[Rows, Rows]:
        return layout.rows(first), layout.rows(layout.turn(world.symmetry, g, second))

    return _uneven(world, rows, layout.precision(), significance, "first observations")


def hidden_start_violation(world: PlacedWorld, n: int, significance: float) -> Violation | None:
    """Test states at the start as a whole, where the first observation shows a part; see ``start_violation``.

    A door may hide on which side the goal is. If that is always the same side, mirrored episodes never come.
    """
    hiding = find_transformable(world.environment)
    if not isinstance(hiding, Hiding):
        return None
    group = world.symmetry.group
    states = []
    for _ in range(n):
        world.reset()
        each = [hiding.hidden_state()]
        for g in group.generators:
            hiding.transform_state(world.symmetry, g)
            each.append(hiding.hidden_state())
            hiding.transform_state(world.symmetry, group.inverse(g))
        states.append(np.stack(each))
    longest = max(each.shape[1] for each in states)  # grids may be of several sizes
    states = [np.pad(each, ((0, 0), (0, longest - each.shape[1]))) for each in states]
    first, second = (np.stack([states[int(k)] for k in part], axis=1) for part in _halves(world, n))
    place = {g: 1 + i for i, g in enumerate(group.generators)}

    def rows(g: int) -> tuple[Rows, Rows]:
        return first[0].astype(float), second[place[g]].astype(float)

    return _uneven(world, rows, np.zeros(longest), significance, "states at the start")


def _halves(world: PlacedWorld, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    # Drawn, not first and second half: what changes from reset to reset is then in both.
    order = world.random.permutation(n)
    return order[: n // 2], order[n // 2 :]


def _uneven(
    world: PlacedWorld, rows: Callable[[int], tuple[Rows, Rows]], precision: Rows, significance: float, what: str
) -> Violation | None:
    """Test for each generator whether two samples, ``rows(g)``, come from one distribution."""
    group = world.symmetry.group
    level = significance / max(1, len(group.generators))
    for g in group.generators:
        first, second = rows(g)
        fixed = resolution(np.concatenate([first, second]), precision, 0.0)
        p = pooled_test([Sample.of(first, second, fixed, join=False)], world.random, level)
        if p < level:
            detail = f"{what} and their images differ, p = {p:.2g}"
            return Violation("start distribution", group.element_names[g], detail)
    return None


def episode_violation(world: PlacedWorld, n: int, significance: float, tolerance: float) -> Violation | None:
    """Test episodes of one repeated action ``a`` against the transforms of episodes under ``g^-1 a``.

    Where starts and dynamics are symmetric, both have one distribution: of the observation after a few steps, its
    change, the return and the number of steps.

    Args:
        world: The environment; its starts are symmetric.
        n: Episodes, shared by the actions.
        significance: Probability of a false alarm.
        tolerance: Largest difference that counts as none.
    """
    layout, group = world.layout, world.symmetry.group
    if not group.generators:
        return None
    known = world.actions.repertoire(world.symmetry, world.random)
    n = max(n, 2 * _LEAST * len(known))
    actions = np.resize(np.arange(len(known)), n)[world.random.permutation(n)]
    episodes = [_episode(world, known[int(action)]) for action in actions]
    rest = np.array([episode[2:] for episode in episodes])
    precision = np.concatenate([np.tile(layout.precision(), 2), world.row_precision()[-3:-2], [0]])

    def rows(g: int, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        first, last = (
            layout.rows(layout.turn(world.symmetry, g, layout.stack([episodes[int(k)][i] for k in chosen])))
            for i in (0, 1)
        )
        return np.concatenate([last, last - first, rest[chosen]], axis=1)

    level = significance / max(1, len(group.generators))
    for g in group.generators:
        samples = []
        for action, taken in enumerate(known):
            image = world.actions.place(known, world.turned_action(g, taken))
            # Each episode serves once: even ones as they are, odd ones transformed.
            plain, turned = np.flatnonzero(actions == image)[::2], np.flatnonzero(actions == action)[1::2]
            first, second = rows(group.identity, plain), rows(g, turned)
            fixed = resolution(np.concatenate([first, second]), precision, tolerance)
            samples.append(Sample.of(first, second, fixed))
        p = pooled_test(samples, world.random, level)
        if p < level:
            detail = f"what is seen after {_STEPS} steps of one action and its image differ, p = {p:.2g}"
            return Violation("episodes", group.element_names[g], detail)
    return None


def _episode(world: PlacedWorld, action: Action) -> tuple[Observation, Observation, float, float]:
    """Return first and last observation, return and number of steps."""
    first = last = world.shown(world.reset())
    total, length = 0.0, 0
    for _ in range(_STEPS):
        seen, reward, terminated, truncated = world.act(action)
        last = world.shown(seen)
        total += reward
        length += 1
        if terminated or truncated:
            break
    return first, last, total, float(length)
