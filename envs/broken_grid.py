"""Grids whose symmetry is broken in known places: where each move leads, and which moves break it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import real_number, whole_number
from equirl.symmetry import MDPSymmetry

__all__ = ["MOVES", "Breaks", "broken_moves", "next_cells"]

MOVES = np.array([(-1, 0), (0, -1), (1, 0), (0, 1)])
"""Row and column step of each action: up, left, down, right (counter-clockwise)."""

_TRIES = 1000


@dataclass(frozen=True)
class Breaks:
    """What breaks the symmetry of a grid, always in the same places for one seed.

    Args:
        cells: Share in [0, 1] of the cells in which one move is turned: it goes to another side than it says.
        one_way: Share in [0, 1] of the borders between neighbouring cells that can be crossed in one direction alone.
        wind: Probability in [0, 1] that the agent is carried one cell to the right after its move.
        seed: Seed of the places.

    Raises:
        TypeError: A setting of another kind.
        ValueError: A setting out of its range.
    """

    cells: float = 0.0
    one_way: float = 0.0
    wind: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, given in (("broken_cells", self.cells), ("one_way", self.one_way), ("wind", self.wind)):
            real_number(given, name, least=0, most=1)
        whole_number(self.seed, "broken_seed", 0)


def next_cells(size: int, breaks: Breaks | None = None) -> NDArray[np.int64]:
    """Return the cell that each move leads to on a grid without walls, integers ``[size * size, 4]``.

    Args:
        size: Rows and columns.
        breaks: What breaks the symmetry; wind is left out, as it is chance.

    Raises:
        ValueError: No such grid was found on which every cell can be reached from every other.
    """
    cells = np.stack(np.divmod(np.arange(size * size), size), axis=1)
    targets = np.clip(cells[:, None] + MOVES, 0, size - 1)
    intact: NDArray[np.int64] = targets[..., 0] * size + targets[..., 1]
    if breaks is None or (breaks.cells == 0 and breaks.one_way == 0):
        return intact
    random = np.random.default_rng(breaks.seed)
    for _ in range(_TRIES):
        broken = _broken(intact, breaks, random)
        if _all_connected(broken):
            return broken
    raise ValueError(
        f"no {size} x {size} grid on which every cell can be reached in {_TRIES} draws (broken_cells {breaks.cells}, "
        f"one_way {breaks.one_way}); lower them"
    )


def broken_moves(size: int, breaks: Breaks, symmetry: MDPSymmetry) -> NDArray[np.bool_]:
    """Return for each cell and move whether the symmetry fails there, booleans ``[size * size, 4]``.

    A move counts as broken if it, or one of its images, leads elsewhere than the image of where another leads: the
    truth that a gate ``w(s, a) = w(gs, ga)`` can be held against. With wind all moves are that from which it can carry
    the agent on.

    Args:
        size: Rows and columns.
        breaks: What breaks the symmetry.
        symmetry: Acts on images ``[3, size, size]`` and four moves.
    """
    target = next_cells(size, breaks)
    moved = _moved_cells(size, symmetry)
    order, n_cells = moved.shape
    renamed = symmetry.permuted_actions.index.cpu().numpy().argsort(axis=1)  # [|G|, 4]: what action a becomes under g
    rows = np.broadcast_to(moved[:, :, None], (order, n_cells, 4))
    columns = np.broadcast_to(renamed[:, None, :], (order, n_cells, 4))
    expected = moved[np.arange(order)[:, None, None], target[None]]
    differs = target[rows, columns] != expected
    if breaks.wind > 0:
        right = next_cells(size)[:, 3]
        differs |= right[target][None] != target[None]
    broken = np.zeros((n_cells, 4), dtype=bool)
    places = differs.any(axis=0)
    for g in range(order):
        broken |= places[rows[g], columns[g]]
    return broken


def _broken(intact: NDArray[np.int64], breaks: Breaks, random: np.random.Generator) -> NDArray[np.int64]:
    n_cells = len(intact)
    target = intact.copy()
    for cell in random.choice(n_cells, size=round(breaks.cells * n_cells), replace=False):
        turned, leads = random.choice(4, size=2, replace=False)
        target[cell, turned] = intact[cell, leads]
    crossings = [(cell, move) for cell in range(n_cells) for move in (2, 3) if intact[cell, move] != cell]
    chosen = random.choice(len(crossings), size=round(breaks.one_way * len(crossings)), replace=False)
    for number in chosen:
        near, move = crossings[number]
        far = intact[near, move]
        blocked = (near, far) if random.random() < 0.5 else (far, near)
        row = target[blocked[0]]
        row[row == blocked[1]] = blocked[0]
    return target


def _all_connected(target: NDArray[np.int64]) -> bool:
    """Return whether every cell can be reached from the first, and the first from every cell."""
    n_cells = len(target)
    reach = np.zeros((n_cells, n_cells), dtype=bool)
    reach[np.repeat(np.arange(n_cells), 4), target.ravel()] = True
    for steps in (reach, reach.T):
        seen = np.zeros(n_cells, dtype=bool)
        seen[0], found = True, 0
        while found < (found := int(seen.sum())):
            seen |= steps[seen].any(axis=0)
        if not seen.all():
            return False
    return True


def _moved_cells(size: int, symmetry: MDPSymmetry) -> NDArray[np.int64]:
    """Return the cell that each element carries each cell to, ``[|G|, cells]``."""
    import torch

    order = symmetry.group.order
    marks = torch.zeros(size * size, 3, size * size)
    marks[torch.arange(size * size), 0, torch.arange(size * size)] = 1
    images = marks.view(-1, 3, size, size)
    observation = symmetry.observation
    seen: list[Any] = [observation.transform(g, images) for g in range(order)]
    moved = [each[:, 0].flatten(1).argmax(dim=1) for each in seen]
    cells: NDArray[np.int64] = torch.stack(moved).numpy()
    return cells
