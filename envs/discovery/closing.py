"""From the elements that a search found to their group, and to the symmetry that acts on an environment's spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import gymnasium as gym
import torch
from gymnasium import spaces

from equirl.envs.discovery.known_groups import recognized
from equirl.envs.discovery.report import Element
from equirl.envs.observations import ObservationLayout
from equirl.generated_tables import GeneratedTables, Step, close
from equirl.groups import FiniteGroup
from equirl.representations import MonomialRepresentation
from equirl.symmetry import MDPSymmetry
from equirl.tokens import TokenRepresentation

__all__ = ["built", "closed", "one_action_order_each"]


def one_action_order_each(elements: Sequence[Element]) -> list[Element]:
    """Return one element for each map of observations: the one that moves the fewest actions."""
    best: dict[Step, Element] = {}
    for element in sorted(elements, key=lambda e: (sum(a != b for a, b in enumerate(e.action.to)), e.error)):
        best.setdefault(element.observation, element)
    return list(best.values())


def closed(elements: Sequence[Element]) -> tuple[tuple[Element, ...], GeneratedTables]:
    """Return a few of the elements that generate all of them, named, and the tables of the group."""
    kept: dict[str, Element] = {}
    tables: GeneratedTables | None = None
    reached: set[tuple[tuple[int, ...], ...]] = set()
    sizes = [len(elements[0].observation.to), len(elements[0].action.to)]
    for element in elements:
        if _key(element) in reached:
            continue
        label = f"g{len(kept) + 1}"
        kept[label] = replace(element, name=f"{label} ({element.name})" if element.name else label)
        tables = close({g: (e.observation, e.action) for g, e in kept.items()}, sizes)
        rows = zip(tables.to[0].tolist(), tables.signs[0].tolist(), tables.to[1].tolist(), strict=True)
        reached = {(tuple(to), tuple(signs), tuple(actions)) for to, signs, actions in rows}
    if tables is None:
        raise ValueError("there are no elements")
    return tuple(kept.values()), tables


def _key(element: Element) -> tuple[tuple[int, ...], ...]:
    signs = element.observation.signs or (1,) * len(element.observation.to)
    return element.observation.to, signs, element.action.to


def built(
    name: str, tables: GeneratedTables, generators: Sequence[Element], environment: gym.Env[Any, Any]
) -> MDPSymmetry:
    """Return the symmetry of a group that was closed, under the names of a well-known group where it is one."""
    space = environment.observation_space
    shape = cast(tuple[int, ...], ObservationLayout(space).shape)
    labels = [element.name.split(" ")[0] for element in generators]
    group = FiniteGroup(name, tables.names, tables.cayley, generators=labels)
    places = torch.arange(group.order)
    if len(shape) == 3 and (known := recognized(tables.to[0], shape)) is not None:
        group, places = known

    def moved(array: int, shape: tuple[int, ...]) -> MonomialRepresentation:
        source = tables.to[array][places].argsort(dim=1)
        return MonomialRepresentation(group, shape, source, tables.signs[array][places].gather(1, source))

    action = moved(1, (tables.to[1].shape[1],))
    if isinstance(space, spaces.Discrete):
        return MDPSymmetry(name, TokenRepresentation(group, tables.to[0][places], shape=()), action)
    return MDPSymmetry(name, moved(0, shape), action)
