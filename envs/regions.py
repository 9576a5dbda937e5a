"""Regions of a square grid: where starts and goals are drawn from, by name or as a rectangle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.names import unknown_name_message

__all__ = ["REGION_NAMES", "Region", "region_cells"]

Region: TypeAlias = str | Sequence[int]
"""A region's name, or a rectangle ``(top, left, bottom, right)`` with ``bottom`` and ``right`` exclusive."""

_QUADRANTS = ("north-west", "north-east", "south-west", "south-east")

REGION_NAMES = ("uniform", *_QUADRANTS, *(f"not-{name}" for name in _QUADRANTS))
"""The named regions. A quadrant of an odd grid holds the middle row and column: the four together cover the grid."""


def region_cells(region: Region, size: int) -> NDArray[np.int64]:
    """Return the cells of a region on a ``size x size`` grid, as flat indices ``row * size + column``, sorted.

    Args:
        region: ``"uniform"`` (every cell); a quadrant such as ``"north-west"``; its complement ``"not-north-west"``;
            or a rectangle ``(top, left, bottom, right)`` in rows and columns from the top left, the last two exclusive.
        size: Rows and columns of the grid.

    Raises:
        TypeError: ``size`` or an edge of the rectangle is no whole number.
        ValueError: ``size`` is less than 1, the name is unknown, the region is neither a name nor four edges, or a
            rectangle is empty or leaves the grid.
    """
    size = whole_number(size, "size", 1)
    inside = np.zeros((size, size), dtype=bool)
    if isinstance(region, str):
        if region not in REGION_NAMES:
            raise ValueError(unknown_name_message("region", region, REGION_NAMES))
        half = (size + 1) // 2
        rows = slice(0, half) if "north" in region else slice(size - half, size)
        columns = slice(0, half) if "west" in region else slice(size - half, size)
        if region == "uniform":
            inside[:] = True
        else:
            inside[rows, columns] = True
            inside ^= region.startswith("not-")
    else:
        if not isinstance(region, (Sequence, np.ndarray)) or len(region) != 4:
            raise ValueError(f"a region is a name or (top, left, bottom, right); got {region!r}")
        rectangle = tuple(whole_number(edge, f"an edge of the region {region!r}", -(2**31)) for edge in region)
        top, left, bottom, right = rectangle
        if not (0 <= top < bottom <= size and 0 <= left < right <= size):
            raise ValueError(
                f"the region (top, left, bottom, right) = {rectangle} is empty or leaves the {size} x {size} grid; "
                "bottom and right are exclusive"
            )
        inside[top:bottom, left:right] = True
    return np.flatnonzero(inside)
