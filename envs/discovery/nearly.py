"""Symmetries that do not hold, but nearly: how often and how far steps differ from their images, by setting states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from equirl.envs.deviation import LARGEST_SHARE, LARGEST_SIZE, Deviation, measure_deviation, measure_deviations
from equirl.envs.discovery.closing import built, closed
from equirl.envs.discovery.near_values import near_values
from equirl.envs.discovery.report import DiscoveryReport, Element, Findings
from equirl.envs.discovery.vectors import search_vectors
from equirl.envs.placing import find_placer, find_transformable
from equirl.envs.transitions import Transitions
from equirl.generated_tables import GeneratedTables, Step
from equirl.symmetry import MDPSymmetry

__all__ = ["find_nearly", "measured"]

_MOST_MEASURED = 8  # candidates measured one after the other, those with the smallest error first
_MOST_REFUTED = 3
_SLACK = 1.5  # times the share that may break a symmetry, which few pairs tell roughly
_FEW = 150  # pairs of state and action, for each of them
_LARGEST_ORDER = 400
_MOST_SCREENED = 24  # action orders of one map of observations
_FEWEST = 20  # pairs of state and action, to tell these apart


def find_nearly(
    environment: gym.Env[Any, Any], data: Transitions, findings: Findings, seed: int, name: str
) -> DiscoveryReport | None:
    """Return the symmetry that nearly holds in a world where none holds; ``None`` where there is none.

    Args:
        environment: One whose states can be set; of any other ``None`` is returned.
        data: The transitions that were searched.
        findings: What the search confirmed and the checker refuted, and what the search refuted narrowly.
        seed: Seed of states and actions.
        name: Name of the symmetry.
    """
    if find_placer(environment) is None and find_transformable(environment) is None:
        return None
    pool = [*findings.elements, *findings.near]
    if isinstance(environment.observation_space, spaces.Discrete):
        pool += near_values(data)
    elif len(data.shape) == 1:
        loose = search_vectors(data, seed, loose=True)
        pool += [*loose.elements, *loose.near]
    kept: list[Element] = []
    refuted: list[Deviation] = []
    for element in _best_orders(environment, pool, seed, name):
        if len(refuted) == _MOST_REFUTED:
            break
        group = _small([*kept, element])
        if group is None or (kept and len(group[1].names) == len(closed(kept)[1].names)):
            continue
        for _, deviation in _each_measured(environment, [element], _FEW, seed, name):
            if deviation.nearly or deviation.broken <= _SLACK * LARGEST_SHARE:
                kept.append(element)
            else:
                refuted.append(deviation)
    for chosen in [kept, kept[:1]] if len(kept) > 1 else [kept]:
        if chosen and (group := _small(chosen)) is not None:
            symmetry = built(name, group[1], group[0], environment)
            if report := measured(environment, symmetry, group[0], findings, seed, len(data)):
                return report
    if refuted and not kept:
        best = min(refuted, key=lambda each: max(each.broken, each.far or 0.0))
        findings.notes.append(f"not even nearly: {best}")
    return None


def measured(
    environment: gym.Env[Any, Any],
    symmetry: MDPSymmetry,
    generators: Sequence[Element],
    findings: Findings,
    seed: int,
    steps: int,
) -> DiscoveryReport | None:
    """Return the report of a symmetry if it nearly holds, and note how far it is from holding in any case."""
    deviation = measure_deviation(environment, symmetry, seed=seed)
    if deviation is None:
        return None
    if not deviation.nearly:
        findings.notes.append(f"not even nearly: {deviation}")
        return None
    limits = f"by more than {LARGEST_SIZE:.0%} of the spread in {LARGEST_SHARE:.0%} of the pairs or fewer"
    findings.notes.append(f"nearly means that steps differ from their images {limits}")
    each = tuple(replace(element, error=deviation.mean, compared=deviation.compared) for element in generators)
    return DiscoveryReport("nearly", symmetry, each, tuple(findings.notes), steps, deviation)


def _best_orders(environment: gym.Env[Any, Any], pool: Sequence[Element], seed: int, name: str) -> list[Element]:
    """Return an element for each map of observations, those with the smallest error first.

    Where a model tells little, it tells least of what becomes of the actions: a few steps tell which order is the best.
    """
    orders: dict[Step, list[Element]] = {}
    for element in sorted(pool, key=lambda element: element.error):
        orders.setdefault(element.observation, []).append(element)
    best = []
    for several in list(orders.values())[:_MOST_MEASURED]:
        distinct = list({element.action: element for element in several}.values())[:_MOST_SCREENED]
        if len(distinct) > 1:
            measured_ones = _each_measured(environment, distinct, _FEWEST, seed, name)
            measured_ones.sort(key=lambda pair: (pair[1].broken, pair[1].mean))
            distinct = [element for element, _ in measured_ones[:1]]
        best += distinct
    return best


def _each_measured(
    environment: gym.Env[Any, Any], elements: Sequence[Element], pairs: int, seed: int, name: str
) -> list[tuple[Element, Deviation]]:
    """Measure elements, each by itself, in the same states; those that generate no group are left out."""
    groups = [(element, group) for element in elements if (group := _small([element])) is not None]
    if not groups:
        return []
    symmetries = [built(name, tables, generators, environment) for _, (generators, tables) in groups]
    told = measure_deviations(environment, symmetries, pairs, seed)
    return [(element, each) for (element, _), each in zip(groups, told, strict=True) if each is not None]


def _small(elements: Sequence[Element]) -> tuple[tuple[Element, ...], GeneratedTables] | None:
    """Return the generators and the tables of a group, ``None`` where elements generate none, or a large one."""
    try:
        generators, tables = closed(elements)
    except ValueError:
        return None
    return None if len(tables.names) > _LARGEST_ORDER else (generators, tables)
