"""MiniGrid's worlds as one-hot images: what each plane marks, and how cells become planes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX, STATE_TO_IDX
from minigrid.core.world_object import WorldObj
from numpy.typing import NDArray

from equirl.names import unknown_name_message

__all__ = ["CARRIED_PLANES", "CELL_PLANES", "FACING_PLANES", "MISSION_PLANES", "CellPlanes", "mission_marks"]

FACING_PLANES = ("facing up", "facing left", "facing down", "facing right")
"""Where the agent is and faces, counter-clockwise: a quarter turn carries each to the next."""

_OBJECTS = ("wall", "floor", "door", "key", "ball", "box", "goal", "lava")
_COLORS = tuple(COLOR_TO_IDX)
_STATES = tuple(STATE_TO_IDX)

CELL_PLANES = (*_OBJECTS, *_COLORS, *_STATES)
"""What a cell holds: the object's type, its colour, and the state of a door."""

CARRIED_PLANES = tuple(f"carried {name}" for name in ("key", "ball", "box", *_COLORS))
"""What the agent carries, marked at the agent's cell."""

MISSION_PLANES = tuple(f"mission {name}" for name in ("door", "key", "ball", "box", *_COLORS))
"""Types and colours that the mission names, each a constant plane. Their order in the text is lost."""


class CellPlanes:
    """Turns cells, encoded as MiniGrid does, into planes.

    Args:
        names: Planes to make, of ``CELL_PLANES`` and ``"unseen"``, in this order.

    Raises:
        ValueError: An unknown name; the message lists the known ones.
    """

    def __init__(self, names: Sequence[str]) -> None:
        known = ("unseen", *CELL_PLANES)
        for name in names:
            if name not in known:
                raise ValueError(unknown_name_message("plane", name, known))
        n_types, n_colors, n_states = len(OBJECT_TO_IDX), len(COLOR_TO_IDX), len(STATE_TO_IDX)
        types, colors, states = np.ogrid[:n_types, :n_colors, :n_states]
        # Empty and unseen cells carry the code of the first colour, which means nothing there.
        is_object = (types != OBJECT_TO_IDX["empty"]) & (types != OBJECT_TO_IDX["unseen"])
        marks = []
        for name in names:
            if name in COLOR_TO_IDX:
                mark = is_object & (colors == COLOR_TO_IDX[name])
            elif name in STATE_TO_IDX:
                mark = (types == OBJECT_TO_IDX["door"]) & (states == STATE_TO_IDX[name])
            else:
                mark = types == OBJECT_TO_IDX[name]
            marks.append(np.broadcast_to(mark, (n_types, n_colors, n_states)).reshape(-1))
        self.names = tuple(names)
        self._strides = (n_colors * n_states, n_states)
        # One row per plane, one column per code of a cell.
        self._marks = np.array(marks, dtype=np.uint8).reshape(len(names), -1)

    def from_codes(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return planes ``[P, H, W]`` of cell codes ``[H, W, 3]`` (type, colour, state)."""
        wide = codes.astype(np.intp)
        key = wide[..., 0] * self._strides[0] + wide[..., 1] * self._strides[1] + wide[..., 2]
        return np.asarray(self._marks[:, key])

    def from_cells(self, cells: Sequence[WorldObj | None], height: int, width: int) -> NDArray[np.uint8]:
        """Return planes ``[P, height, width]`` of a grid's cells, row by row."""
        colors, states = self._strides
        empty = OBJECT_TO_IDX["empty"] * colors
        keys = [empty if cell is None else _key(cell, colors, states) for cell in cells]
        return np.asarray(self._marks[:, np.array(keys, dtype=np.intp).reshape(height, width)])


def mission_marks(mission: str) -> NDArray[np.uint8]:
    """Return 1 for each of ``MISSION_PLANES`` whose type or colour the mission names, shape ``[10]``."""
    words = set(re.findall(r"[a-z]+", mission.lower()))
    return np.array([name.removeprefix("mission ") in words for name in MISSION_PLANES], dtype=np.uint8)


def _key(cell: WorldObj, colors: int, states: int) -> int:
    kind, color, state = cell.encode()
    return int(kind * colors + color * states + state)
