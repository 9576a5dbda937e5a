"""Tables and figures of the bench, from its CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from equirl.experiments.cost.measurement import COLUMNS
from equirl.experiments.cost.passes import FORWARD, SCALING, TRAIN
from equirl.experiments.figures import (
    COLORS,
    legend_outside,
    log_axis,
    make_panels,
    name_rows,
    reference_line,
    styles_of,
)
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study

__all__ = ["draw_passes", "draw_scaling", "fitted_exponents", "markdown", "read_measurements", "report_bench"]

_TEXTS = ("what", "method", "group", "backbone", "device")
_COUNTS = ("size", "batch", "rounds", "threads")
_HEADS = ("backbone", "size", "batch", "group", "method", "time", "quartiles", "to plain", "to floor", "peak")
_AXES = {
    "order": ("size", "order of the group"),
    "batch": ("batch", "batch (images)"),
    "grid": ("size", "side of the grid (cells)"),
    "environments": ("batch", "number of environments"),
}
"""What is varied, to the column that holds the number and the name of its axis."""


def report_bench(folder: Path) -> Report:
    """Return the tables of a bench, and its figures where it measured passes and scaling.

    Raises:
        FileNotFoundError: There is no ``bench.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    table = read_measurements(folder / "bench.csv")
    drawn = {"passes.png": draw_passes(table), "scaling.png": draw_scaling(table)}
    return Report(markdown(table), {name: figure for name, figure in drawn.items() if figure is not None})


def read_measurements(path: Path) -> pd.DataFrame:
    """Return the rows of a ``bench.csv``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or another study's.
    """
    numbers = [column for column in COLUMNS if column not in _TEXTS]
    texts = dict.fromkeys(_TEXTS, str)
    table = read_study(path, COLUMNS, "equirl bench", numbers=numbers, may_be_empty=True, dtype=texts)
    if table[[*_TEXTS, *_COUNTS]].isna().to_numpy().any():
        raise ValueError(f"{path}: a cell of the columns {', '.join([*_TEXTS, *_COUNTS])} is empty; it is damaged")
    return table.astype(dict.fromkeys(_COUNTS, int))


def markdown(table: pd.DataFrame) -> str:
    """Return Markdown tables, one for each thing that was done, and how time and memory grow."""
    parts = []
    for what, rows in table.groupby("what", sort=False):
        device, threads = rows.device.iloc[0], rows.threads.iloc[0]
        place = f"{device}, {threads} thread{'s' if threads > 1 else ''}"
        parts.append(f"**{what}** ({place})\n\n{markdown_table(_HEADS, map(_cells, rows.itertuples()))}")
    lines = []
    for varied, (time, memory) in fitted_exponents(table).items():
        text = f"- By {varied}: time grows as n^{time:.2f}"
        lines.append(text + ("" if np.isnan(memory) else f", peak memory as n^{memory:.2f}"))
    return "\n\n".join([*parts, *(["\n".join(lines)] if lines else [])])


def fitted_exponents(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return for each thing varied the exponents of time and of memory, least squares of logarithms.

    The smallest half is left out, where constant costs hide the growth.

    Args:
        table: Rows of the bench, with the fields of ``Measurement`` as columns.
    """
    exponents = {}
    for varied, what in SCALING.items():
        column, _ = _AXES[varied]
        chosen = table[table.what == what].sort_values(column)
        if len(chosen) < 2:
            continue
        half = chosen[len(chosen) // 2 - (1 if len(chosen) < 4 else 0) :]
        logarithms = np.log(half[[column, "seconds", "peak_mb"]].to_numpy(float))
        time, memory = (float(np.polyfit(logarithms[:, 0], logarithms[:, k], 1)[0]) for k in (1, 2))
        exponents[varied] = (time, memory)
    return exponents


def draw_passes(table: pd.DataFrame) -> Figure | None:
    """Draw the time of each method over the floor, a row for each case; ``None`` where there are no such rows."""
    chosen = table[table.what.isin((FORWARD, TRAIN)) & table.ratio_to_floor.notna() & (table.method != "plain")]
    if not len(chosen):
        return None
    numbers, cases = pd.factorize(np.array([_case(row) for row in chosen.itertuples()]))
    figure, (panels,) = make_panels(1, 2, width=9, height=1.6 + 0.19 * len(cases), share_x=True, share_y=True)
    for axes, what in zip(panels, (FORWARD, TRAIN), strict=True):
        for method, style in styles_of(chosen.method).items():
            picked = ((chosen.what == what) & (chosen.method == method)).to_numpy()
            style = {**style, "linestyle": "none"}
            axes.plot(chosen.ratio_to_floor[picked], numbers[picked], **style, markersize=4.5, label=method)
        reference_line(axes, 1, "floor", horizontal=False)
        axes.set_title(what, fontsize=10)
        log_axis(axes, "x", "time / floor", [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
        name_rows(axes, list(cases))
    legend_outside(figure, 6)
    return figure


def draw_scaling(table: pd.DataFrame) -> Figure | None:
    """Draw time and peak memory over what was varied; ``None`` where nothing was."""
    parts = {varied: table[table.what == what] for varied, what in SCALING.items() if what in set(table.what)}
    if not parts:
        return None
    figure, panels = make_panels(2, len(parts), width=3 * len(parts), height=5)
    for column, (varied, part) in enumerate(parts.items()):
        number, name = _AXES[varied]
        x = part[number].to_list()
        drawn = ((part.seconds * 1e3, "time (ms)"), (part.peak_mb, "peak memory (MB)"))
        for row, (values, label) in zip(panels, drawn, strict=True):
            axes = row[column]
            axes.plot(x, values, "o-", markersize=4, color=COLORS[2])
            log_axis(axes, "x", name, x)
            log_axis(axes, "y", label)
            axes.tick_params(labelsize=8)
        what = "step of all environments" if varied == "environments" else "forward + backward"
        panels[0][column].set_title(what, fontsize=10)
    return figure


def _case(row: Any) -> str:
    return f"{row.backbone} {row.size}x{row.size}, {row.group}, batch {row.batch}"


def _cells(row: Any) -> tuple[object, ...]:
    return (
        *(row.backbone, row.size, row.batch, row.group, row.method),
        _time(row.seconds) + ("" if np.isnan(row.steps) else f" ({row.steps:,.0f} steps)"),
        "" if np.isnan(row.seconds_low) else f"{_time(row.seconds_low)} to {_time(row.seconds_high)}",
        _ratio(row.ratio_to_plain),
        _ratio(row.ratio_to_floor),
        "" if np.isnan(row.peak_mb) else f"{row.peak_mb:.1f} MB",
    )


def _time(seconds: float) -> str:
    if not np.isfinite(seconds):
        return "not reached"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:,.1f} {unit}"
    return f"{seconds * 1e6:,.0f} µs"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else ""
