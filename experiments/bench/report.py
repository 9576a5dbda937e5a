"""From the rows of a bench to its table and its plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from equirl.experiments.bench.passes import FORWARD, TRAIN
from equirl.experiments.bench.scaling import SCALING, fitted_exponents
from equirl.experiments.bench.timing import Measurement
from equirl.files import written_whole

__all__ = ["draw_passes", "draw_scaling", "markdown"]


def markdown(rows: Sequence[Measurement]) -> str:
    """Return Markdown tables, one for each thing that was done."""
    parts = []
    for what in dict.fromkeys(row.what for row in rows):
        chosen = [row for row in rows if row.what == what]
        device = f"{chosen[0].device}, {chosen[0].threads} thread{'s' if chosen[0].threads > 1 else ''}"
        parts.append(f"**{what}** ({device})\n")
        parts.append("| backbone | size | batch | group | method | time | quartiles | to plain | to floor | peak |")
        parts.append("|---|---|---|---|---|---|---|---|---|---|")
        for row in chosen:
            cells = [
                row.backbone,
                str(row.size),
                str(row.batch),
                row.group,
                row.method,
                _time(row.seconds) + ("" if math.isnan(row.steps) else f" ({row.steps:,.0f} steps)"),
                "" if math.isnan(row.seconds_low) else f"{_time(row.seconds_low)} to {_time(row.seconds_high)}",
                _ratio(row.ratio_to_plain),
                _ratio(row.ratio_to_floor),
                "" if math.isnan(row.peak_mb) else f"{row.peak_mb:.1f} MB",
            ]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    for varied, (time, memory) in fitted_exponents(list(rows)).items():
        text = f"- By {varied}: time grows as n^{time:.2f}"
        parts.append(text + ("" if math.isnan(memory) else f", peak memory as n^{memory:.2f}"))
    return "\n".join(parts).strip()


def draw_passes(rows: Sequence[Measurement], picture: Path) -> None:
    """Write a PNG: time of each method over the floor, by case."""
    chosen = [row for row in rows if row.what in (FORWARD, TRAIN) and not math.isnan(row.ratio_to_floor)]
    chosen = [row for row in chosen if row.method not in ("plain",)]
    if not chosen:
        return
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, what in zip(panels, (FORWARD, TRAIN), strict=True):
        part = [row for row in chosen if row.what == what]
        cases = list(dict.fromkeys((r.backbone, r.size, r.group, r.batch) for r in part))
        for method in dict.fromkeys(row.method for row in part):
            points = [
                (cases.index((r.backbone, r.size, r.group, r.batch)), r.ratio_to_floor)
                for r in part
                if r.method == method
            ]
            axes.plot(*zip(*points, strict=True), "o", markersize=4, label=method)
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set_yscale("log")
        axes.set_title(what, fontsize=10)
        axes.set_xticks(range(len(cases)), [f"{b} {s} {g} {n}" for b, s, g, n in cases], rotation=90, fontsize=6)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("time / floor")
    panels[0].legend(fontsize=8)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def draw_scaling(rows: Sequence[Measurement], picture: Path) -> None:
    """Write a PNG: time and peak memory over what was varied."""
    if not any(row.what in SCALING.values() for row in rows):
        return
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(2, len(SCALING), squeeze=False)
    for column, (varied, what) in enumerate(SCALING.items()):
        part = [row for row in rows if row.what == what]
        x = [row.batch if varied in ("batch", "environments") else row.size for row in part]
        for axes, values, label in (
            (panels[0][column], [row.seconds * 1e3 for row in part], "ms"),
            (panels[1][column], [row.peak_mb for row in part], "peak MB"),
        ):
            axes.loglog(x, values, "o-", markersize=4)
            axes.set_ylabel(label)
            axes.grid(alpha=0.3)
        panels[0][column].set_title(f"by {varied}", fontsize=10)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "not reached"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:,.1f} {unit}"
    return f"{seconds * 1e6:,.0f} µs"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else ""
