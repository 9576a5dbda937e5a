"""From the CSV of the SCAN study to its table and its plot, beside the published figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from equirl.experiments.tables import read_study
from equirl.files import written_whole

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


def report_scan(folder: Path) -> str:
    """Write ``summary.md`` and ``accuracy.png`` beside ``study.csv``, and return the table.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    shares = ("held_out", "zero_shot", "fine_tuned", "seconds")
    columns = (*_bar_keys(), "seed", *shares)
    study = read_study(
        folder / "study.csv", columns, "equirl scan", numbers=shares, keep_default_na=False, na_values=[""]
    )
    lines = [
        "| split | cell | group | method | variant | seeds | held out | zero-shot | range | fine-tuned | range "
        "| published | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ["split", "cell", "symmetry", "method", "variant"]
    for key, runs in study.groupby(keys, sort=False):
        split, cell, symmetry, method, variant = (str(part) for part in key)
        published = PUBLISHED.get((split, cell, symmetry, method))
        cells = [
            *(split, cell, symmetry, method, variant, str(len(runs)), _mean(runs.held_out)),
            *(_mean(runs.zero_shot), _range(runs.zero_shot), _mean(runs.fine_tuned), _range(runs.fine_tuned)),
            "" if published is None else f"{published:.1f}",
            f"{runs.seconds.median():.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    text = "\n".join(lines)
    with written_whole(folder / "summary.md") as temporary:
        temporary.write_text(text + "\n")
    with written_whole(folder / "accuracy.png") as temporary:
        _draw(study).savefig(temporary, dpi=150, format="png")
    return text


def _draw(study: pd.DataFrame) -> Figure:
    splits = list(dict.fromkeys(study.split))
    figure = Figure(
        figsize=(7.5, 1 + 0.34 * len(study.drop(columns="seed").groupby(_bar_keys()))), layout="constrained"
    )
    panels = figure.subplots(len(splits), 1, squeeze=False)[:, 0]
    for axes, split in zip(panels, splits, strict=True):
        labels = []
        for place, (key, runs) in enumerate(study[study.split == split].groupby(_bar_keys(), sort=False)):
            _, cell, symmetry, method, variant = (str(part) for part in key)
            labels.append(" ".join(part for part in (cell, symmetry, method, variant) if part not in ("-", "")))
            for offset, column, color in ((0.2, "zero_shot", "tab:gray"), (-0.2, "fine_tuned", "tab:blue")):
                values = 100 * runs[column].dropna().to_numpy(dtype=float)
                if len(values):
                    axes.barh(-place + offset, values.mean(), 0.36, color=color, label=column.replace("_", "-"))
                    axes.plot(values, np.full(len(values), -place + offset), "k.", markersize=3)
            published = PUBLISHED.get((split, cell, symmetry, method))
            if published is not None:
                axes.plot(published, -place, "D", color="tab:red", markersize=4, label="published")
        axes.set_yticks(-np.arange(len(labels)), labels, fontsize=7)
        axes.set_xlim(0, 101)
        axes.set_title(f"{split}: test accuracy, mean and each seed", fontsize=9)
        axes.grid(axis="x", alpha=0.3)
        handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
        axes.legend(handles.values(), handles.keys(), fontsize=7, loc="lower right")
    panels[-1].set_xlabel("% of commands answered without a mistake")
    return figure


def _bar_keys() -> list[str]:
    return ["split", "cell", "symmetry", "method", "variant"]


def _mean(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.mean():.1f}" if len(known) else ""


def _range(values: pd.Series) -> str:
    known = values.dropna()
    return f"{100 * known.min():.1f} to {100 * known.max():.1f}" if len(known) else ""
