"""The report of a study of images: tables, and figures of accuracy, weights of the views, and equizero's choice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from equirl.experiments.figures import legend_outside, make_panels, name_rows, styles_of
from equirl.experiments.records import read_settings
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study
from equirl.experiments.vision.config import Variant
from equirl.names import unknown_name_message
from equirl.rotations import view_names

__all__ = ["report_study"]

_COMMAND = "equirl vision zero-shot` or `finetune"
_VARIANT = ["group", *(name for name in Variant._fields if name != "group")]
_METHODS = {"plain": "plain", "equitune": "equitune", "equizero": "equizero", "lambda_equitune": "λ-equitune"}
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

_SMALL = 8  # points


def report_study(folder: Path, methods: Sequence[str] = tuple(_METHODS)) -> Report:
    """Return tables and figures of some methods, as far as a study has them; figures of what none has are removed.

    Raises:
        FileNotFoundError: There is no study in the folder.
        ValueError: It has none of the methods, or a CSV is damaged.
    """
    study = _read(folder / "study.csv", "angle", ("accuracy", "same", "seed", "n"), methods)
    weights = _read(folder / "weights.csv", "view", ("mean", "low", "high", "largest"), methods)
    reliability = _read(folder / "reliability.csv", "method", ("tenth", "upright", "accuracy"), methods)
    errors = read_study(folder / "errors.csv", ("group", "n", "mean", "largest"), _COMMAND, may_be_empty=True)
    if not len(study):
        raise ValueError(f"{folder / 'study.csv'} has no rows of {', '.join(methods)}")
    try:
        settings = read_settings(folder / "record.json", (), _COMMAND)
        about = f"{settings['model']} on {settings['data']}, "
    except (OSError, ValueError, KeyError):  # the CSVs suffice for a report
        about = ""
    n_seeds = study.seed.nunique()
    about += f"{study.n.max()} test images, {n_seeds} seed{'s' if n_seeds > 1 else ''}"
    files: dict[str, Figure | str] = {"accuracy.png": _draw_accuracy(study, about)}
    for name, table, draw in (("weights", weights, _draw_weights), ("reliability", reliability, _draw_reliability)):
        if len(table):
            files[f"{name}.png"] = draw(table, about)
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)
    texts = [_accuracies(study), _choices(weights, reliability), _errors(errors)]
    return Report("\n\n".join(text for text in texts if text), files)


def _read(path: Path, named: str, numbers: Sequence[str], methods: Sequence[str]) -> pd.DataFrame:
    columns, empty, text = (*_VARIANT, named, *numbers), path.name != "study.csv", {"angle": str, "view": str}
    table = read_study(path, columns, _COMMAND, numbers=numbers, may_be_empty=empty, dtype=text)
    for kind, known in (("group", _GROUPS), ("method", _METHODS)):
        for name in table[kind].unique():
            if name not in known:
                raise ValueError(f"{path}: {unknown_name_message(kind, name, known)}")
    return table[table.method.isin(methods)]


def _accuracies(study: pd.DataFrame) -> str:
    """Return accuracies in per cent: mean over seeds, and their range."""
    names = {"0": "upright", "uniform": "uniformly turned", "any": "turned by any angle"}
    angles = [angle for angle in names if angle in set(study.angle)]
    lines = []
    for key, rows in study.groupby(_VARIANT, sort=False):
        views = 100 * rows.groupby("angle").accuracy.mean().reindex(view_names(str(key[0])))
        worst = f"{views.min():.1f}" if views.notna().all() else ""
        spreads = [_spread(rows[rows.angle == angle].accuracy) for angle in angles]
        same = f"{100 * rows[rows.angle == 'uniform'].same.mean():.1f}"
        lines.append([*key, rows.seed.nunique(), *spreads, worst, same])
    heads = ["seeds", *(names[angle] for angle in angles), "worst orientation", "same answer when turned"]
    return markdown_table([*_VARIANT, *heads], lines)


def _spread(values: pd.Series) -> str:
    text = f"{100 * values.mean():.1f}" if len(values) else ""
    return text if len(values) < 2 else f"{text} ({100 * values.min():.1f} to {100 * values.max():.1f})"


def _choices(weights: pd.DataFrame, reliability: pd.DataFrame) -> str:
    """Return the weight of the upright view over the upright test images, and how it depends on the margin."""
    lines = []
    for key, rows in weights.groupby(_VARIANT, sort=False):
        upright = rows[rows["view"] == "0"]
        cells = [f"{upright['mean'].mean():.3f}", f"{100 * upright.largest.mean():.1f}"]
        cells.append(f"{100 / rows['view'].nunique():.1f}")
        chosen = reliability[(reliability[_VARIANT] == list(key)).all(axis=1)] if len(reliability) else reliability
        ends = 100 * chosen.groupby("tenth")[["upright", "accuracy"]].mean().iloc[[0, -1] if len(chosen) else []]
        cells += [f"{ends[column].iloc[0]:.0f}, {ends[column].iloc[1]:.0f}" if len(ends) else "" for column in ends]
        lines.append([*key, *cells])
    heads = ["weight of the upright view, mean", "it is the heaviest", "by chance"]
    heads += ["it is chosen: least, greatest tenth of margins", "accuracy there"]
    return markdown_table([*_VARIANT, *heads], lines) if lines else ""


def _errors(errors: pd.DataFrame) -> str:
    """Return a sentence for each interpolated group: how far its rotations are from a group."""
    return "\n".join(
        f"{row.group} is interpolated: turning twice is not turning once by the sum, |ρ(g)ρ(h)x - ρ(gh)x| / |x| is "
        f"{row.mean:.3f} on average and at most {row.largest:.3f} ({row.n} test images, all pairs)."
        for row in errors.itertuples()
    )


def _draw_accuracy(study: pd.DataFrame, about: str) -> Figure:
    """Draw the accuracies of each variant in a row: upright, turned, and in each other orientation of the group."""
    groups = list(dict.fromkeys(study.group))
    variants = list(dict.fromkeys(map(tuple, study[_VARIANT[1:]].astype(str).to_numpy())))
    columns = min(2, len(groups))
    rows = -(-len(groups) // columns)
    labels = [_label(variant) for variant in variants]
    width = max(7.0, 0.065 * max(map(len, labels)) + 3.4 * columns)
    height = 1.5 + rows * (0.9 + 0.34 * len(variants))
    figure, grid = make_panels(rows, columns, width=width, height=height, share_x=True, share_y=True)
    panels = [axes for row in grid for axes in row]
    for group, axes in zip(groups, panels, strict=False):
        for key, found in study[study.group == group].groupby(_VARIANT[1:], sort=False):
            _draw_row(axes, variants.index(tuple(map(str, key))), found, view_names(group))
        name_rows(axes, labels)
        _write_around(axes, _GROUPS[group], "accuracy on the test images, %")
        axes.tick_params(axis="x", labelbottom=True)
        axes.grid(axis="x", alpha=0.3)
    for axes in panels[len(groups) :]:
        axes.remove()
    legend_outside(figure, columns)
    spread = "; bars: range over seeds" if study.seed.nunique() > 1 else ""
    figure.suptitle(f"Accuracy on turned images\n{about}{spread}", fontsize=10)
    return figure


def _draw_row(axes: Axes, row: int, found: pd.DataFrame, views: Sequence[str]) -> None:
    by_angle = 100 * found.groupby("angle").accuracy.agg(["mean", "min", "max"])
    everywhere = by_angle["mean"].reindex(views).dropna()
    others = everywhere.drop("0")
    if len(others):
        axes.hlines(row, everywhere.min(), everywhere.max(), color="0.75", linewidth=1.5, zorder=1)
        label = "each other orientation of the group"
        axes.plot(others, [row] * len(others), "|", color="0.35", markersize=9, zorder=1.5, label=label)
    for angle, label, color, marker, place in _ANGLES:
        if angle in by_angle.index:
            mean, low, high = by_angle.loc[angle]
            errors = np.clip([[mean - low], [high - mean]], 0, None)
            style: dict[str, Any] = {"color": color, "markersize": 4.5, "capsize": 2, "elinewidth": 1}
            axes.errorbar(mean, row + place, xerr=errors, fmt=marker, label=label, **style)


def _draw_weights(weights: pd.DataFrame, about: str) -> Figure:
    """Draw a table of the weights of each view: mean, and the middle nine tenths, over the upright test images."""
    groups = list(dict.fromkeys(weights.group))
    tables = {group: list(weights[weights.group == group].groupby(_VARIANT[1:], sort=False)) for group in groups}
    labels = {group: [_label(key) for key, _ in tables[group]] for group in groups}
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
        axes.set_xticks(range(len(views)), [view.replace("mirror ", "mirror\n") for view in views])
        name_rows(axes, labels[group])
        mirrored = " (mirrored first where named)" if group in ("d4", "flip") else ""
        title = f"{_GROUPS[group]}; equal weights are {1 / len(views):.3g}"
        _write_around(axes, title, f"turn of the view, degrees{mirrored}")
    heading = "Mean weight of each view, and its 5th to 95th percentile, over the upright test images"
    figure.suptitle(f"{heading}\n{about}", fontsize=10)
    return figure


def _draw_reliability(reliability: pd.DataFrame, about: str) -> Figure:
    """Draw equizero's choice by the margin between its best and its second view, in tenths of the test images."""
    groups = list(dict.fromkeys(reliability.group))
    figure, panels = make_panels(len(groups), 2, width=8.5, height=1.2 + 2.7 * len(groups))
    styles = styles_of(_label(key) for key, _ in reliability.groupby(_VARIANT[1:], sort=False))
    for row, group in zip(panels, groups, strict=True):
        of_group = reliability[reliability.group == group]
        for axes, column, name in zip(row, ("upright", "accuracy"), ("upright view chosen", "accuracy"), strict=True):
            for key, rows in of_group.groupby(_VARIANT[1:], sort=False):
                shares = 100 * rows.groupby("tenth")[column].mean()
                axes.plot(shares.index, shares, label=_label(key), markersize=5, **styles[_label(key)])
            axes.set_xticks(range(1, 11))
            axes.set_ylabel(f"{name}, % of the tenth", fontsize=_SMALL)
            axes.set_ylim(-2, 104)
            _write_around(axes, _GROUPS[group], "tenth of the upright test images, smallest margin first")
            axes.grid(alpha=0.3)
    legend_outside(figure, 3)
    figure.suptitle(f"Equizero's choice by the margin between its best two views\n{about}", fontsize=10)
    return figure


def _write_around(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel(x_label, fontsize=_SMALL)
    axes.tick_params(labelsize=_SMALL)


def _label(variant: Sequence[Any]) -> str:
    """Return the name of a variant in a figure, from its method on."""
    method, level, kind, reads, trained, labels = map(str, variant)
    parts = [_METHODS[method], "" if kind == "-" else kind, "on maps" if level == "maps" else ""]
    parts += ["reading inputs" if reads == "inputs" else "", "whole network" if trained == "whole" else ""]
    parts += ["" if trained == "nothing" else "1 label" if labels == "1" else f"{labels} labels"]
    return ", ".join(part for part in parts if part)
