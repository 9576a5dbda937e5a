"""From the CSV of the SCAN study to its table and its plot, beside the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from equirl.experiments.figures import COLORS, legend_outside, make_panels, name_rows
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study

__all__ = ["PUBLISHED", "report_scan"]

PUBLISHED: dict[tuple[str, str, str, str], float] = {
    ("addprim_jump", "lstm", "-", "plain"): 0.0,
    ("addprim_jump", "g_lstm", "jump-run", "g_lstm"): 98.3,
    ("addprim_jump", "lstm", "jump-run", "equitune"): 97.9,
    ("template_around_right", "lstm", "-", "plain"): 0.4,
    ("template_around_right", "g_lstm", "directions", "g_lstm"): 89.6,
    ("template_around_right", "lstm", "directions", "equitune"): 95.7,
}
"""Split, cell, group and method to the published test accuracy in per cent after fine-tuning: Basu et al. (2022, 2023)
and Gordon et al. (2020), recalled, not looked up; the protocol there is ``--paper``'s."""

_BAR = ["split", "cell", "symmetry", "method", "variant"]


def report_scan(folder: Path) -> Report:
    """Return the table and the figure of the study in a folder.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    shares = ("held_out", "zero_shot", "fine_tuned", "seconds")
    columns = (*_BAR, "seed", *shares)
    study = read_study(
        folder / "study.csv", columns, "equirl scan", numbers=shares, keep_default_na=False, na_values=[""]
    )
    rows = []
    for (split, cell, symmetry, method, variant), runs in study.groupby(_BAR, sort=False):
        row = [split, cell, symmetry, method, variant, len(runs), _mean(runs.held_out)]
        row += [_mean(runs.zero_shot), _range(runs.zero_shot), _mean(runs.fine_tuned), _range(runs.fine_tuned)]
        published = PUBLISHED.get((split, cell, symmetry, method))
        rows.append([*row, "" if published is None else f"{published:.1f}", f"{runs.seconds.median():.0f}"])
    heads = ("split", "cell", "group", "method", "variant", "seeds", "held out", "zero-shot", "range", "fine-tuned")
    return Report(markdown_table((*heads, "range", "published", "seconds"), rows), {"accuracy.png": _draw(study)})


def _draw(study: pd.DataFrame) -> Figure:
    splits = list(dict.fromkeys(study.split))
    n_bars = len(study.groupby(_BAR))
    figure, panels = make_panels(len(splits), 1, width=7.5, height=1.4 + 0.34 * n_bars, share_x=True)
    for (axes,), split in zip(panels, splits, strict=True):
        labels = []
        for place, ((_, *names), runs) in enumerate(study[study.split == split].groupby(_BAR, sort=False)):
            labels.append(" ".join(str(name) for name in names if name not in ("-", "")))
            for offset, column, color in ((-0.2, "zero_shot", COLORS[6]), (0.2, "fine_tuned", COLORS[1])):
                values = 100 * runs[column].dropna().to_numpy(dtype=float)
                if len(values):
                    axes.barh(place + offset, values.mean(), 0.36, color=color, label=column.replace("_", "-"))
                    axes.plot(values, np.full(len(values), place + offset), "k.", markersize=3, label="one seed")
            published = PUBLISHED.get((split, *names[:3]))
            if published is not None:
                axes.plot(published, place, "D", color=COLORS[3], markersize=4, label="published")
        name_rows(axes, labels)
        axes.set_xlim(0, 101)
        axes.set_title(f"{split}: test accuracy, mean over seeds", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
    panels[-1][0].set_xlabel("% of commands answered without a mistake")
    legend_outside(figure)
    return figure


def _mean(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.1f}" if len(known) else ""


def _range(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.min():.1f} to {100 * known.max():.1f}" if len(known) else ""
