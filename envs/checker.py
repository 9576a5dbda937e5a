"""Does an environment have the symmetry one is about to rely on? What SB3's ``check_env`` is for the API."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from equirl.arguments import real_number, whole_number
from equirl.envs.dynamics_check import DynamicsCheck
from equirl.envs.episode_check import episode_violation, hidden_start_violation, start_violation
from equirl.envs.observations import fit_symmetry
from equirl.envs.outcome_tests import least_significance
from equirl.envs.placed_steps import PlacedWorld
from equirl.envs.placing import Hiding, find_placer, find_transformable
from equirl.envs.symmetry_report import SymmetryReport, Violation
from equirl.envs.transition_check import check_transitions
from equirl.symmetry import MDPSymmetry

_STEPS_EACH = 20  # steps of rollouts for each transition, where no state can be set

__all__ = ["SymmetryReport", "Violation", "check_symmetry"]


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
    agent: Callable[[Any], Any] | None = None,
) -> SymmetryReport:
    """Check that an environment has a symmetry: spaces, dynamics with rewards and ends, and starts.

    **Dynamics**, ``p(gs', r | gs, ga) = p(s', r | s, a)``: states come from random rollouts; the environment is put
    into ``s`` and into ``gs`` and stepped with ``a`` and ``ga``. Its placer puts it there (``register_placer``), or its
    ``transform_state`` where an observation does not show the whole state. Rewards and both ends of an episode
    (terminated, truncated) are compared with the observations. Deterministic dynamics are compared exactly, to
    ``tolerance``; stochastic ones by a permutation test over the outcomes in up to 20 states, 200 steps from ``s`` and
    from ``gs`` in each, and more where the result is not clear. Where observations are vectors of floats and the
    dynamics deterministic, states drawn from the bounds of the observation are compared, too: random actions may never
    come there.

    **Placing** is checked too: steps from ``s`` must give what the rollout saw there. Where they do not, the
    observation hides something (a velocity, a counter) or the placer is wrong, and the dynamics count as not checked.
    A time limit does not matter: it ends every episode after the same number of steps.

    **Without placing**, transitions of rollouts are compared with each other: each pair of state and action with its
    image, where states recur and outcomes do not vary; of other vectors a fitted model is asked, which sees large
    violations only and leaves the verdict at "not checked".

    **Starts**: first observations are compared with transformed first observations of other resets, by a permutation
    test of their energy distance (Székely and Rizzo 2013) for each generator of the group. Where an agent sees a part
    of its world (``EgocentricView``), the whole states at the start are compared in the same way.

    **Episodes**: where the dynamics cannot be checked and the starts are symmetric, episodes of a few steps under one
    repeated action are compared with the transforms of episodes under the action's image. This finds many wrong
    symmetries; it cannot show that one is right.

    The tests of dynamics, of starts and of what they hide have a false alarm with probability ``significance`` each.

    Args:
        environment: A Gymnasium environment with ``Discrete`` actions and observations that policies take: ``Box``,
            ``Discrete``, ``MultiDiscrete``, ``MultiBinary``, or a ``Dict`` of these. Pictures with their channels last
            are seen channels first, as SB3 shows them.
        symmetry: A registered name, an ``MDPSymmetry``, or ``"mirror"`` for a MuJoCo robot (see ``mujoco_mirror``).
        n_transitions: Transitions to compare, at least 1.
        n_resets: Resets for the start test, half of them for each sample; at least 20.
        significance: Probability of a false alarm in the statistical tests.
        tolerance: Largest absolute difference of observations and rewards that counts as none. A few last bits of the
            observation's dtype, and what such a bit of the state changes, come on top.
        check_starts: Whether the starts are to be symmetric too; the report says if they were left out.
        seed: Seed of states, actions and group elements.
        agent: From an observation to an action, both as the environment knows them: takes half of the actions of the
            rollouts, which so reach states that random actions do not. By default all are random.

    Returns:
        The report. ``report.verdict`` is ``"holds"``, ``"violated"`` or ``"not checked"``; ``report.ok`` says whether
        it is ``"holds"``.

    Raises:
        TypeError: Observations have no fixed shape, actions are not ``Discrete``, or an argument is of another kind.
        ValueError: Unknown symmetry, one that does not fit the spaces, an argument out of its range, or an environment
            whose observations or rewards are NaN or not of its space.
    """
    fitted, layout = fit_symmetry(symmetry, environment)
    whole_number(n_transitions, "n_transitions", 1)
    whole_number(n_resets, "n_resets", 20)
    whole_number(seed, "seed", 0)
    real_number(tolerance, "tolerance", least=0.0)
    n_generators = max(1, len(fitted.group.generators))
    least = least_significance(max(4, n_generators))
    if real_number(significance, "significance", above=0.0) >= 1 or significance < least:
        raise ValueError(
            f"significance is a probability between {least:.2g} and 1; got {significance:g}. A smaller one takes more "
            "permutations than are done. Choose a larger significance (0.001 is the default)"
        )
    random = np.random.default_rng(seed)
    world = PlacedWorld(environment, fitted, layout, random, agent)
    passed: list[str] = []
    skipped: list[str] = []
    left_out: list[str] = []
    violations: list[Violation] = []

    def note(description: str, violation: Violation | None) -> None:
        if violation is None:
            passed.append(description)
        else:
            violations.append(violation)

    note("spaces: bounds map to bounds", _space_violation(world))
    if find_placer(environment) is None and find_transformable(environment) is None:
        name = type(environment.unwrapped).__name__
        finding = check_transitions(environment, fitted, _STEPS_EACH * n_transitions, seed, agent)
        if finding.skipped:
            reason = f"dynamics: {name} cannot be placed in a state; see register_placer. {finding.skipped}"
            skipped.append(reason)
        else:
            note(finding.description, finding.violation)
    else:
        finding = DynamicsCheck(world, significance, tolerance).run(n_transitions)
        if finding.skipped:
            skipped.append(f"dynamics: {finding.skipped}")
        else:
            note(finding.description, finding.violation)
    if not check_starts:
        left_out.append("start distribution: starts may be asymmetric (check_starts=False, --no-starts)")
        return SymmetryReport(fitted.name, tuple(passed), tuple(skipped), tuple(violations), tuple(left_out))
    uneven = start_violation(world, n_resets, significance)
    shift = 2 * math.sqrt(4 / n_resets)  # four standard errors at p = 1/2, half of the resets on either side
    power = f"would find a probability that is off by {shift:.2g}"
    note(f"start distribution: {n_resets} resets, significance {significance:g}; {power}", uneven)
    if uneven is None and isinstance(find_transformable(environment), Hiding):
        described = f"hidden starts: what the agent does not see yet, {n_resets} resets, significance {significance:g}"
        note(described, hidden_start_violation(world, n_resets, significance))
    if skipped and uneven is None:
        description = f"episodes: a few steps of one action from {n_resets} starts, significance {significance:g}"
        note(description, episode_violation(world, n_resets, significance, tolerance))
    return SymmetryReport(fitted.name, tuple(passed), tuple(skipped), tuple(violations), tuple(left_out))


def _space_violation(world: PlacedWorld) -> Violation | None:
    group = world.symmetry.group
    for g in range(group.order):
        if detail := world.layout.misfit(world.symmetry.observation, g):
            return Violation("spaces", group.element_names[g], detail)
    return None
