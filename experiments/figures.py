"""Drawing: one set of colours, line styles, legends and axes for the figures of all studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from equirl.files import written_whole

__all__ = [
    *("COLORS", "count_axis", "draw_band", "legend_outside", "log_axis", "make_panels"),
    *("name_rows", "reference_line", "save_figure", "styles_of"),
]

COLORS = ("#000000", "#E69F00", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#8C6D1F")
"""Colours that the colour-blind can tell apart (Okabe and Ito 2008, https://jfly.uni-koeln.de/color); their yellow is
darker here, to be seen on white."""

_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3)))
_MARKERS = "os^DvP*X"


def make_panels(
    rows: int = 1, columns: int = 1, *, width: float, height: float, share_x: bool = False, share_y: bool = False
) -> tuple[Figure, list[list[Axes]]]:
    """Return an empty figure and its panels, by row and column.

    Args:
        rows: Rows of panels.
        columns: Columns of panels.
        width: Width of the figure, in inches.
        height: Height of the figure, in inches.
        share_x: Whether the panels have the same horizontal axis.
        share_y: Whether they have the same vertical axis.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y)
    return figure, [list(row) for row in panels]


def styles_of(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return colour, line style and marker of each name: who cannot tell two colours apart can tell the lines."""
    return {
        name: {
            "color": COLORS[k % len(COLORS)],
            "linestyle": _LINES[k % len(_LINES)],
            "marker": _MARKERS[k % len(_MARKERS)],
        }
        for k, name in enumerate(dict.fromkeys(names))
    }


def draw_band(
    axes: Axes, x: ArrayLike, middle: ArrayLike, bounds: tuple[ArrayLike, ArrayLike], label: str, style: Any
) -> None:
    """Draw a line and the band around it.

    Args:
        axes: The panel.
        x: Horizontal positions, ``[T]``.
        middle: The line, ``[T]``.
        bounds: Lower and upper bound of the band, ``[T]`` each.
        label: What the legend calls it.
        style: Its entry of ``styles_of``; markers are left out.
    """
    axes.plot(x, middle, label=label, color=style["color"], linestyle=style["linestyle"], linewidth=1.7)
    low, high = map(np.asarray, bounds)
    axes.fill_between(np.asarray(x), low, high, alpha=0.13, color=style["color"], linewidth=0)


def legend_outside(figure: Figure, columns: int = 4, title: str | None = None) -> None:
    """Put one legend of all panels below them, where it covers no data.

    Args:
        figure: The figure; lines without a label, and labels that came before, are left out.
        columns: Most entries side by side.
        title: Title of the legend.
    """
    entries: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()),
            list(entries),
            loc="outside lower center",
            ncols=min(columns, len(entries)),
            title=title,
            fontsize=8,
            frameon=False,
        )


def count_axis(axes: Axes, label: str, upper: float | None = None) -> None:
    """Make the horizontal axis one of counts from 0: few ticks, written as 20k rather than as 20000."""
    axes.set_xlabel(label)
    axes.set_xlim(0, upper)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.grid(alpha=0.3)


def log_axis(axes: Axes, which: str, label: str, ticks: Sequence[float] | None = None) -> None:
    """Make an axis logarithmic, with plain numbers at its ticks.

    Args:
        axes: The panel.
        which: ``"x"`` or ``"y"``.
        label: The quantity, with its unit.
        ticks: Where the ticks are; by default at 1, 2 and 5 times the powers of ten.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}scale": "log"})
    axis.set_label_text(label)
    if ticks is None:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    else:
        axis.set_ticks(list(ticks))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.3)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows of a horizontal chart, the first one at the top."""
    axes.set_yticks(np.arange(len(names)), names, fontsize=8)
    axes.set_ylim(len(names) - 0.5, -0.5)


def reference_line(axes: Axes, value: float, label: str, *, horizontal: bool = True) -> None:
    """Draw a thin dashed line at a value, named in the legend."""
    draw = axes.axhline if horizontal else axes.axvline
    draw(value, color="grey", linewidth=0.8, linestyle=(0, (4, 4)), label=label)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with written_whole(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png", bbox_inches="tight")
