"""From an environment to its symmetry: transitions, candidates, the group, and the checker's verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from equirl.arguments import of_kind
from equirl.envs.checker import check_symmetry
from equirl.envs.discovery.closing import built, closed, one_action_order_each
from equirl.envs.discovery.images import search_images
from equirl.envs.discovery.nearly import find_nearly, measured
from equirl.envs.discovery.report import DiscoveryReport, Element, Findings, Outcome
from equirl.envs.discovery.values import search_values
from equirl.envs.discovery.vectors import search_vectors
from equirl.envs.mujoco_states import mujoco_states
from equirl.envs.mujoco_symmetry import mujoco_mirror
from equirl.envs.recurring import Outcomes
from equirl.envs.transitions import Transitions, collect_transitions
from equirl.generated_tables import GeneratedTables, step_of
from equirl.representations import MonomialRepresentation
from equirl.symmetry import MDPSymmetry

__all__ = ["discover_symmetry"]

_LEAST_SHARE = 0.9  # of the pairs seen, that must have been compared with their image under some element
_LEAST_EACH = 0.7  # of them, under each generator
_PRODUCTS = 64  # elements compared
_OFTEN = 10  # visits, after which an image that was never seen is no accident
_MOST_LONELY = 0.01  # share of the pairs
_CHECKED = 300  # transitions


def discover_symmetry(
    environment: gym.Env[Any, Any],
    *,
    steps: int = 20_000,
    seed: int = 0,
    agent: Callable[[Any], Any] | None = None,
    name: str = "discovered",
) -> DiscoveryReport:
    """Find the symmetry of an environment from transitions; no state is set to find it.

    These moves of an observation are tried, each with permutations of the actions (``Box``: with signs):

    - vectors: permutations of the coordinates, with signs;
    - images ``[C, H, W]``: turns, mirrors and shifts, with permutations of the channels;
    - ``Discrete``: permutations of the values.

    The moves that hold generate the group. If states recur, each state and action is compared with its image, else a
    model of the dynamics is fitted and asked. At the end ``check_symmetry`` tests the group, if it can set states; a
    group that it refutes is not returned.

    For a MuJoCo robot only the mirror that its model shows is tried (``mujoco_mirror``).

    Dynamics, rewards and ends must be symmetric. The start states need not be.

    Args:
        environment: ``Discrete`` actions, or ``Box`` actions with vector observations; observations ``Box`` of one or
            three axes, or ``Discrete``.
        steps: Steps to take.
        seed: Seed of actions, split and model.
        agent: From an observation to an action; takes half of the actions. By default all are random.
        name: Name of the symmetry.

    Returns:
        The report; ``report.symmetry`` is ``None`` where nothing was found.

    Raises:
        TypeError: Other spaces.
        ValueError: Observations of two axes or of more than three, or numbers that are NaN or out of range.
    """
    of_kind(name, str, "name")
    if _is_robot(environment):
        return _of_the_model(environment, seed, name)
    data = collect_transitions(environment, steps, seed, agent)
    findings = _search(environment, data, seed)
    if not findings.elements:
        found = find_nearly(environment, data, findings, seed, name)
        if found is not None and found.deviation is not None and not found.deviation.mean:
            symmetry = cast(MDPSymmetry, found.symmetry)
            if _verdict(environment, symmetry, seed, findings) == "holds":
                return replace(found, outcome="exact", deviation=None, notes=tuple(findings.notes))
        return found or _nothing("not enough data" if findings.unclear else "none found", findings, steps)
    report = _judged(environment, data, findings, findings.elements, seed, name)
    if report.outcome == "none found" and len(findings.elements) > 1:
        single = [_judged(environment, data, replace(findings, notes=[]), [e], seed, name) for e in findings.elements]
        kept = [e for e, each in zip(findings.elements, single, strict=True) if each.found]
        if 0 < len(kept) < len(findings.elements):
            findings.notes.append(f"{len(kept)} of the {len(findings.elements)} elements hold by themselves")
            return _judged(environment, data, findings, kept, seed, name)
    if report.outcome == "none found":
        return find_nearly(environment, data, findings, seed, name) or report
    return report


def _judged(
    environment: gym.Env[Any, Any], data: Transitions, findings: Findings, found: list[Element], seed: int, name: str
) -> DiscoveryReport:
    """Close elements to a group, check it, and say what came of it."""
    steps = len(data)
    elements = one_action_order_each(found)
    if len(elements) < len(found):
        findings.notes.append("some actions have the same effect; those that move few actions are kept")
    try:
        generators, tables = closed(elements)
    except ValueError as error:
        findings.notes.append(f"no group: {error}")
        return _nothing("not enough data", findings, steps)
    order = len(tables.names)
    if findings.complete and order > len(elements) + 1:
        findings.notes.append(
            f"the {len(elements)} elements found generate {order}: some of them are false, or some were not seen"
        )
        return _nothing("not enough data", findings, steps)
    share = least = min(element.share for element in generators)
    if findings.outcomes is not None:
        share, n_wrong, n_lonely = _products(findings, tables)
        if n_wrong:
            findings.notes.append(f"{n_wrong} pairs of state and action contradict products of the elements found")
            return _nothing("not enough data", findings, steps)
        if n_lonely > _MOST_LONELY * findings.outcomes.n_pairs:
            note = f"{n_lonely} pairs of state and action were seen {_OFTEN} times or more, and their images never"
            findings.notes.append(note)
            findings.unclear = True
        findings.notes.append(f"under all products together {share:.0%} of the pairs seen were compared: no difference")
    symmetry = built(name, tables, generators, environment)
    silent = not data.ends.any() and float(data.rewards.min()) == float(data.rewards.max())
    if silent:
        findings.notes.append("all rewards are equal and no episode ended: nothing is said about rewards and ends")
    verdict = _verdict(environment, symmetry, seed, findings)
    if verdict == "violated":
        return _nothing("none found", findings, steps)
    if verdict == "holds":
        return DiscoveryReport("exact", symmetry, generators, tuple(findings.notes), steps)
    if findings.unclear or silent or share < _LEAST_SHARE or least < _LEAST_EACH:
        findings.notes.append("what no check confirms is left out; take more steps")
        return _nothing("not enough data", findings, steps)
    findings.notes.append("states that these steps did not reach were not compared")
    exact = findings.outcomes is not None or (not _is_vector(environment) and max(e.error for e in generators) == 0)
    return DiscoveryReport("exact" if exact else "nearly", symmetry, generators, tuple(findings.notes), steps)


def _products(findings: Findings, tables: GeneratedTables) -> tuple[float, int, int]:
    """Compare products of the elements, too.

    Returns:
        Which share of the pairs was compared, how many contradict a product, and how many were seen often while their
        images under one element never were.
    """
    known = cast(Outcomes, findings.outcomes)
    chosen = np.random.default_rng(0).permutation(len(tables.names))[:_PRODUCTS]
    compared, n_wrong, n_lonely = None, 0, 0
    for g in chosen[chosen > 0].tolist():
        image = known.image(known.states[:, np.argsort(tables.to[0][g].numpy())])
        both, wrong = known.contradicted(image, tables.to[1][g].numpy())
        compared = both if compared is None else compared | both
        n_wrong += len(wrong)
        n_lonely = max(n_lonely, int(((known.visits >= _OFTEN) & ~both).sum()))
    return (0.0 if compared is None else float(compared.sum()) / known.n_pairs), n_wrong, n_lonely


def _of_the_model(environment: gym.Env[Any, Any], seed: int, name: str) -> DiscoveryReport:
    """Return the mirror of a MuJoCo robot: its model tells it, and the checker tells whether it holds."""
    findings = Findings(notes=["a MuJoCo robot: the candidate is the mirror that its model tells, not one of steps"])
    try:
        mirror = mujoco_mirror(environment)
    except ValueError as error:
        findings.notes.append(str(error))
        return _nothing("none found", findings, 0)
    symmetry = MDPSymmetry(name, mirror.observation, mirror.action)
    verdict = _verdict(environment, symmetry, seed, findings)
    g = 1 - symmetry.group.identity
    element = Element(
        "mirror",
        step_of(cast(MonomialRepresentation, mirror.observation), g),
        step_of(mirror.permuted_actions, g),
        0.0,
        _CHECKED,
    )
    if verdict == "violated":
        found = measured(environment, symmetry, (element,), findings, seed, _CHECKED)
        return found or _nothing("none found", findings, _CHECKED)
    if verdict != "holds":
        return _nothing("not enough data", findings, _CHECKED)
    return DiscoveryReport("exact", symmetry, (element,), tuple(findings.notes), _CHECKED)


def _search(environment: gym.Env[Any, Any], data: Transitions, seed: int) -> Findings:
    space = environment.observation_space
    if _is_vector(environment):
        return search_vectors(data, seed)
    if not data.n_actions:
        raise TypeError(
            f"with Box actions symmetries are sought on vectors [n]; observations are {list(data.shape)}. Make the "
            "actions Discrete"
        )
    if isinstance(space, spaces.Discrete):
        return search_values(data, int(space.n))
    if len(data.shape) != 3:
        raise ValueError(
            f"symmetries are sought on vectors [n] and images [C, H, W]; observations are {list(data.shape)}"
        )
    return search_images(data)


def _is_robot(environment: gym.Env[Any, Any]) -> bool:
    """Return whether a mirror can be derived from a model: a MuJoCo robot whose spaces no wrapper changes."""
    inner = environment.unwrapped
    spaces_kept = environment.observation_space == inner.observation_space
    return mujoco_states(inner) is not None and spaces_kept and environment.action_space == inner.action_space


def _is_vector(environment: gym.Env[Any, Any]) -> bool:
    space = environment.observation_space
    return isinstance(space, spaces.Box) and len(space.shape) == 1


def _nothing(outcome: Outcome, findings: Findings, steps: int) -> DiscoveryReport:
    return DiscoveryReport(outcome, None, (), tuple(findings.notes), steps)


def _verdict(environment: gym.Env[Any, Any], symmetry: MDPSymmetry, seed: int, findings: Findings) -> str:
    try:
        report = check_symmetry(environment, symmetry, n_transitions=_CHECKED, check_starts=False, seed=seed)
    except (TypeError, ValueError) as error:
        findings.notes.append(f"not checked by setting states: {error}")
        return "not checked"
    reason = f" ({report.skipped[0]})" if report.skipped else f": {report.violations[0]}" if report.violations else ""
    findings.notes.append(f"check_symmetry, which sets states: {report.verdict}{reason}")
    return report.verdict
