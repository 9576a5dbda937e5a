"""Draw docs/pictures/orbit.svg: the eight views of one state of the grid, and the move that is best in each."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SIZE = 5
AGENT, GOAL, WALLS = (4, 1), (0, 3), ((1, 0), (1, 1))  # row, column
MOVE = (-1, 0)  # up
AGENT_COLOUR, GOAL_COLOUR, WALL_COLOUR = "#0072B2", "#E69F00", "#999999"  # Okabe and Ito's, colour-blind safe
PICTURE = Path(__file__).resolve().parents[1] / "pictures" / "orbit.svg"

_QUARTER = np.array([[0, -1], [1, 0]])  # counter-clockwise, on (x, y)
_MIRROR = np.array([[-1, 0], [0, 1]])


def _turned(vector: tuple[int, int], matrix: np.ndarray, place: bool) -> tuple[int, int]:
    """Return a cell or a move (row, column) after the matrix has acted on the plane, the grid's centre fixed."""
    centre = (SIZE - 1) / 2 if place else 0
    x, y = vector[1] - centre, centre - vector[0]
    new_x, new_y = matrix @ np.array([x, y])
    return round(centre - new_y), round(new_x + centre)


def _draw(axes: Axes, matrix: np.ndarray, title: str) -> None:
    axes.set(xlim=(0, SIZE), ylim=(SIZE, 0), xticks=range(SIZE + 1), yticks=range(SIZE + 1), aspect="equal")
    axes.set_title(title, fontsize=9)
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for wall in WALLS:
        row, column = _turned(wall, matrix, True)
        axes.add_patch(Rectangle((column, row), 1, 1, color=WALL_COLOUR))
    row, column = _turned(GOAL, matrix, True)
    axes.plot(column + 0.5, row + 0.5, marker="*", markersize=13, color=GOAL_COLOUR)
    row, column = _turned(AGENT, matrix, True)
    axes.plot(column + 0.5, row + 0.5, marker="o", markersize=8, color=AGENT_COLOUR)
    down, right = _turned(MOVE, matrix, False)
    start = (column + 0.5, row + 0.5)
    end = (start[0] + 1.2 * right, start[1] + 1.2 * down)
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "-|>", "color": AGENT_COLOUR, "lw": 1.6})


def draw(path: Path) -> None:
    """Write the picture as SVG; equal bytes on every run."""
    mpl.rcParams["svg.hashsalt"] = "equirl"
    figure = Figure(figsize=(8, 4.3), layout="constrained")
    for number, axes in enumerate(figure.subplots(2, 4).flat):
        turns, mirrored = number % 4, number >= 4
        matrix = np.linalg.matrix_power(_QUARTER, turns) @ (_MIRROR if mirrored else np.eye(2, dtype=int))
        turn = "as it is" if turns == 0 else f"turned by {90 * turns}°"
        _draw(axes, matrix, ("mirrored, " if mirrored else "") + turn if turns or not mirrored else "mirrored")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)
