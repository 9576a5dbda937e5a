"""Turning and mirroring the state of a MiniGrid environment in place."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from minigrid.core.grid import Grid
from minigrid.minigrid_env import MiniGridEnv

from equirl.constructions import image_representation
from equirl.groups import FiniteGroup

__all__ = ["facing", "facing_action", "transform_minigrid"]

# Cells that environments remember beside the grid and read in step(). Settings such as agent_start_pos stay: the next
# reset reads them.
_POSITIONS = ("agent_pos", "target_pos", "move_pos", "success_pos", "failure_pos")

# MiniGrid numbers directions clockwise from the right; ours go counter-clockwise from up.
_FROM_MINIGRID = {3: 0, 2: 1, 1: 2, 0: 3}
_TO_MINIGRID = {ours: theirs for theirs, ours in _FROM_MINIGRID.items()}


def facing(environment: MiniGridEnv) -> int:
    """Return where the agent faces: 0 up, 1 left, 2 down, 3 right."""
    return _FROM_MINIGRID[int(environment.agent_dir)]


def transform_minigrid(environment: MiniGridEnv, group: FiniteGroup, element: int) -> None:
    """Turn or mirror the state: the grid, the agent and what it carries, and the target cells that missions store.

    Args:
        environment: A MiniGrid environment after ``reset``, other than BabyAI's.
        group: Quarter turns ``r`` and the mirror ``s`` (left and right), as ``image_representation`` takes them.
        element: Index of the group element.

    Raises:
        TypeError: An environment of BabyAI.
        ValueError: The group turns by a quarter and the grid is not square.
    """
    if hasattr(environment, "instrs"):
        raise TypeError(
            f"{type(environment).__name__} is one of BabyAI's, whose instructions remember positions and sides "
            "('on your left'); they cannot be moved. MiniGrid's own environments can"
        )
    grid = environment.grid
    source = _sources(group, grid.height, grid.width)[element]
    target = source.argsort()

    def moved(position: Any) -> tuple[int, int]:
        x, y = (int(coordinate) for coordinate in position)
        if not (0 <= x < grid.width and 0 <= y < grid.height):
            return x, y  # carried objects are at (-1, -1)
        row, column = divmod(int(target[y * grid.width + x]), grid.width)
        return column, row

    for cell in {id(cell): cell for cell in grid.grid if cell is not None}.values():
        if cell.cur_pos is not None:
            cell.cur_pos = moved(cell.cur_pos)
    turned = Grid(grid.width, grid.height)
    turned.grid = [grid.grid[i] for i in source.tolist()]
    environment.grid = turned
    for name in _POSITIONS:
        if getattr(environment, name, None) is not None:
            setattr(environment, name, moved(getattr(environment, name)))
    directions = facing_action(group)[element]
    environment.agent_dir = _TO_MINIGRID[int(directions[facing(environment)])]


@lru_cache(maxsize=16)
def _sources(group: FiniteGroup, height: int, width: int) -> torch.Tensor:
    """Return from which cell each element fills each cell, integers ``[|G|, height * width]``."""
    return image_representation(group, (1, height, width)).index


@lru_cache(maxsize=16)
def facing_action(group: FiniteGroup) -> torch.Tensor:
    """Return how a group of turns and mirrors permutes up, left, down, right: integers ``[|G|, 4]``."""
    # A 3 x 3 image with a mark at the middle of each side shows it for every such group.
    sides = torch.tensor([1, 3, 7, 5])  # up, left, down, right of the flattened 3 x 3
    source = _sources(group, 3, 3)
    target = source.argsort(dim=1)[:, sides]
    return (target[:, :, None] == sides).long().argmax(dim=2)
