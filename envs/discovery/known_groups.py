"""Recognize a group of turns, mirrors and shifts of an image, so that its elements have the names they always have."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from equirl.constructions import image_representation
from equirl.groups import FiniteGroup, cyclic_group, dihedral_group
from equirl.plane_groups import torus_group, torus_symmetries

__all__ = ["recognized"]


def recognized(to: Tensor, shape: tuple[int, ...]) -> tuple[FiniteGroup, Tensor] | None:
    """Return a well-known group that moves the cells of images alike, and which element is which.

    Args:
        to: Where each element carries each entry of an image, integers ``[|G|, C * H * W]``.
        shape: ``(C, H, W)``.

    Returns:
        The group, and for each of its elements the number of the same one in ``to``; ``None`` if there is no such
        group, or if two elements move cells alike and channels differently.
    """
    channels, height, width = shape
    cells = (to % (height * width)).view(len(to), channels, -1)
    if not bool((cells == cells[:, :1]).all()):
        return None
    number = {tuple(row): g for g, row in enumerate(cells[:, 0].tolist())}
    if len(number) < len(to):
        return None
    for group in _candidates(len(to), height, width):
        moved = image_representation(group, (1, height, width)).index.argsort(dim=1)
        places = [number.get(tuple(row)) for row in moved.tolist()]
        if None not in places:
            return group, torch.tensor(places)
    return None


def _candidates(order: int, height: int, width: int) -> Iterator[FiniteGroup]:
    square = height == width
    turns = [cyclic_group(2), dihedral_group(1), dihedral_group(2)]
    turns += [cyclic_group(4), dihedral_group(4)] if square else []
    yield from (group for group in turns if group.order == order)
    if order == height * width:
        yield torus_group(height, width)
    yield from (torus_symmetries(height, width, group) for group in turns if group.order * height * width == order)
