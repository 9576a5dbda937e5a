"""Figures of a study of images: accuracy by orientation, weights of the views, reliability of equizero's choice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equirl.rotations import view_names

__all__ = ["METHODS", "VARIANT", "draw_accuracy", "draw_reliability", "draw_weights"]

VARIANT = ["group", "method", "level", "kind", "reads", "trained", "labels"]
"""Columns that tell the variants of a study apart."""

METHODS = {"plain": "plain", "equitune": "equitune", "equizero": "equizero", "lambda_equitune": "λ-equitune"}
"""Methods and their names in figures."""

_GROUPS = {
    "c4": "c4, quarter turns",
    "d4": "d4, quarter turns and mirrors",
    "flip": "flip, the mirror alone",
    "c8": "c8, turns by 45°, interpolated",
    "c16": "c16, turns by 22.5°, interpolated",
}
_ANGLES = (
    ("0", "upright", "#0072B2", "o", -0.25),
    ("uniform", "turned by a random element of the group", "#D55E00", "s", 0.0),
    ("any", "turned by a random angle, 0° to 360°", "#009E73", "^", 0.25),
)
"""Angle, label, colour (of Okabe and Ito), marker, and place within a row."""

_STYLES = (
    *(("#0072B2", "-", "o"), ("#D55E00", "--", "s"), ("#009E73", ":", "^")),
    *(("#CC79A7", "-.", "D"), ("#E69F00", "-", "v"), ("#56B4E9", "--", "P"), ("#000000", ":", "X")),
)
_SMALL = 8  # points


def draw_accuracy(study: pd.DataFrame, about: str) -> Figure:
    """Draw the accuracies of each variant in a row: upright, turned, and in each other orientation of the group.

    Args:
        study: The accuracies, in the columns of ``study.csv``.
        about: Network, images and seeds, for the heading.
    """
    groups = list(dict.fromkeys(study.group))
    variants = list(dict.fromkeys(map(tuple, study[VARIANT[1:]].astype(str).to_numpy())))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    labels = [_label(variant) for variant in variants]
    width = 0.065 * max(map(len, labels)) + 3.4 * columns
    figure = Figure(figsize=(max(7.0, width), 1.5 + rows * (0.9 + 0.34 * len(variants))), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for group, axes in zip(groups, panels, strict=False):
        of_group = study[study.group == group]
        for key, found in of_group.groupby(VARIANT[1:], sort=False):
            _draw_row(axes, variants.index(tuple(map(str, key))), found, view_names(group))
        axes.set_yticks(range(len(variants)), labels, fontsize=_SMALL)
        axes.set_ylim(len(variants) - 0.4, -0.6)
        axes.tick_params(axis="x", labelbottom=True, labelsize=_SMALL)
        axes.set_xlabel("accuracy on the test images, %", fontsize=_SMALL)
        axes.set_title(_GROUPS[group], fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[len(groups) :]:
        axes.remove()
    spread = "; bars: range over seeds" if study.seed.nunique() > 1 else ""
    return _with_heading(figure, f"Accuracy on turned images\n{about}{spread}", legend=True)


def _draw_row(axes: Axes, row: int, found: pd.DataFrame, views: Sequence[str]) -> None:
    by_angle = 100 * found.groupby("angle").accuracy.agg(["mean", "min", "max"])
    others = by_angle["mean"].reindex(views).drop("0").dropna()
    if len(others):
        everywhere = by_angle["mean"].reindex(views).dropna()
        axes.hlines(row, everywhere.min(), everywhere.max(), color="0.75", linewidth=1.5, zorder=1)
        label = "each other orientation of the group"
        axes.plot(others, [row] * len(others), "|", color="0.35", markersize=9, zorder=1.5, label=label)
    for angle, label, color, marker, place in _ANGLES:
        if angle in by_angle.index:
            mean, low, high = by_angle.loc[angle]
            errors = np.clip([[mean - low], [high - mean]], 0, None)
            style: dict[str, Any] = {"color": color, "markersize": 4.5, "capsize": 2, "elinewidth": 1}
            axes.errorbar(mean, row + place, xerr=errors, fmt=marker, label=label, **style)


def draw_weights(weights: pd.DataFrame, about: str) -> Figure:
    """Draw a table of the weights of each view: mean, and the middle nine tenths, over the upright test images.

    Args:
        weights: The weights, in the columns of ``weights.csv``.
        about: Network, images and seeds, for the heading.
    """
    groups = list(dict.fromkeys(weights.group))
    tables = {group: list(weights[weights.group == group].groupby(VARIANT[1:], sort=False)) for group in groups}
    labels = {group: [_label(list(map(str, key))) for key, _ in tables[group]] for group in groups}
    n_views = max(len(view_names(group)) for group in groups)
    width = 0.065 * max(len(label) for found in labels.values() for label in found) + max(4.0, 0.62 * n_views)
    heights = [0.8 + 0.36 * len(tables[group]) for group in groups]
    figure = Figure(figsize=(max(7.0, width), 0.6 + sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights).flatten()
    for group, axes in zip(groups, panels, strict=True):
        views = list(view_names(group))
        cells = [rows.groupby("view")[["mean", "low", "high"]].mean().loc[views] for _, rows in tables[group]]
        axes.imshow([cell["mean"] for cell in cells], cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, cell in enumerate(cells):
            for column, (mean, low, high) in enumerate(cell.to_numpy()):
                text = f"{mean:.2f}\n{low:.2f}–{high:.2f}"
                color = "white" if mean > 0.6 else "black"
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
        axes.set_xticks(range(len(views)), [view.replace("mirror ", "mirror\n") for view in views], fontsize=_SMALL)
        axes.set_yticks(range(len(cells)), labels[group], fontsize=_SMALL)
        mirrored = " (mirrored first where named)" if group in ("d4", "flip") else ""
        axes.set_xlabel(f"turn of the view, degrees{mirrored}", fontsize=_SMALL)
        axes.set_title(f"{_GROUPS[group]}; equal weights are {1 / len(views):.3g}", fontsize=9)
    heading = f"Mean weight of each view, and its 5th to 95th percentile, over the upright test images\n{about}"
    return _with_heading(figure, heading)


def draw_reliability(reliability: pd.DataFrame, about: str) -> Figure:
    """Draw equizero's choice by the margin between its best and its second view, in tenths of the test images.

    Args:
        reliability: The shares, in the columns of ``reliability.csv``.
        about: Network, images and seeds, for the heading.
    """
    groups = list(dict.fromkeys(reliability.group))
    figure = Figure(figsize=(8.5, 1.2 + 2.7 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 2, squeeze=False)
    for row, group in zip(panels, groups, strict=True):
        variants = list(reliability[reliability.group == group].groupby(VARIANT[1:], sort=False))
        for axes, column, name in zip(row, ("upright", "accuracy"), ("upright view chosen", "accuracy"), strict=True):
            for number, (key, rows) in enumerate(variants):
                shares = 100 * rows.groupby("tenth")[column].mean()
                color, line, marker = _STYLES[number % len(_STYLES)]
                style: dict[str, Any] = {
                    "color": color,
                    "linestyle": line,
                    "marker": marker,
                    "markersize": 6 - number % 4,
                }
                axes.plot(shares.index, shares, label=_label(list(map(str, key))), **style)
            axes.set_xticks(range(1, 11))
            axes.tick_params(labelsize=_SMALL)
            axes.set_xlabel("tenth of the upright test images, smallest margin first", fontsize=_SMALL)
            axes.set_ylabel(f"{name}, % of the tenth", fontsize=_SMALL)
            axes.set_ylim(-2, 104)
            axes.set_title(_GROUPS[group], fontsize=9)
            axes.grid(alpha=0.3)
    return _with_heading(figure, f"Equizero's choice by the margin between its best two views\n{about}", legend=True)


def _label(variant: Sequence[str]) -> str:
    """Return the name of a variant in a figure, from its method on."""
    method, level, kind, reads, trained, labels = variant
    parts = [METHODS[method], "" if kind == "-" else kind, "on maps" if level == "maps" else ""]
    parts += ["reading inputs" if reads == "inputs" else "", "whole network" if trained == "whole" else ""]
    parts += ["" if trained == "nothing" else "1 label" if labels == "1" else f"{labels} labels"]
    return ", ".join(part for part in parts if part)


def _with_heading(figure: Figure, heading: str, legend: bool = False) -> Figure:
    """Put a heading above the panels, and one legend for all of them below, in as many columns as fit."""
    figure.suptitle(heading, fontsize=10)
    if legend:
        found: dict[Any, Any] = {}
        for axes in figure.axes:
            handles, labels = axes.get_legend_handles_labels()
            found.update(zip(labels, handles, strict=True))
        columns = int(figure.get_figwidth() / (0.07 * max(map(len, found)) + 0.6)) or 1
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns, fontsize=_SMALL)
    return figure
