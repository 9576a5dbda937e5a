"""From the CSVs of the zero-shot studies to their tables and plots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rliable import library, metrics

from equirl.experiments.study_files import read_study
from equirl.files import written_whole

__all__ = ["report_control", "report_grid"]

_BOOTSTRAPS = 5000
_GRID_COLUMNS = (
    *("group", "variant", "seed", "success_known", "success_unseen", "seconds"),
    *("familiar_share", "value_familiar", "value_unfamiliar"),
)
_CONTROL_COLUMNS = ("environment", "stage", "variant", "seed", "mean_return")


def report_grid(folder: Path) -> str:
    """Write ``summary.md`` and ``success.png`` beside ``study.csv``, and return the table.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    study = read_study(
        folder / "study.csv",
        _GRID_COLUMNS,
        "equirl benchmark zero-shot",
        numbers=_GRID_COLUMNS[2:],
        dtype={"variant": str},
    )
    variants = {group: set(rows.variant) for group, rows in study.groupby("group", dropna=False)}
    for group, known in variants.items():
        if known != set(study.variant):
            lacking = ", ".join(sorted(map(str, set(study.variant) - known)))
            raise ValueError(f"{folder / 'study.csv'}: the group {group} has no rows of {lacking}; it is damaged")
    lines = [
        "| group | variant | known quadrant | three unseen | unseen, worst seed | familiar views | max Q familiar "
        "| max Q unfamiliar | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (group, variant), runs in study.groupby(["group", "variant"], sort=False):
        if variant == "plain" and group != study.group.iloc[0]:
            continue  # the same agents under every group
        cells = [
            "-" if variant == "plain" else group,
            variant,
            *(f"{runs[column].mean():.3f}" for column in ("success_known", "success_unseen")),
            f"{runs.success_unseen.min():.3f}",
            *(
                "-" if runs[column].isna().any() else f"{runs[column].mean():.2f}"
                for column in ("familiar_share", "value_familiar", "value_unfamiliar")
            ),
            "-" if variant == "plain" else f"{runs.seconds.median():.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return _write(folder, "\n".join(lines), _draw_grid(study), "success.png")


def report_control(folder: Path) -> str:
    """Write ``summary.md`` and ``returns.png`` beside ``study.csv``, and return the table.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    study = read_study(folder / "study.csv", _CONTROL_COLUMNS, "equirl benchmark control", numbers=("mean_return",))
    lines = [
        "| environment | trained for | variant | return, IQM of seeds | bootstrap over seeds | each seed |",
        "|---|---|---|---|---|---|",
    ]
    for (environment, stage, variant), runs in study.groupby(["environment", "stage", "variant"], sort=False):
        middle, low, high = _interquartile_mean(runs.mean_return.to_numpy())
        each = ", ".join(f"{value:.0f}" for value in runs.mean_return)
        lines.append(f"| {environment} | {stage} | {variant} | {middle:.1f} | {low:.1f} to {high:.1f} | {each} |")
    return _write(folder, "\n".join(lines), _draw_control(study), "returns.png")


def _write(folder: Path, table: str, figure: Figure, picture: str) -> str:
    with written_whole(folder / "summary.md") as temporary:
        temporary.write_text(table + "\n")
    with written_whole(folder / picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return table


def _draw_grid(study: pd.DataFrame) -> Figure:
    groups, variants = list(study.group.unique()), list(study.variant.unique())
    figure = Figure(figsize=(5.2 * len(groups), 0.36 * len(variants) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    rows = np.arange(len(variants))
    for axes, group in zip(panels, groups, strict=True):
        for shift, column, label in ((-0.2, "success_known", "known"), (0.2, "success_unseen", "three unseen")):
            table = study[study.group == group].pivot_table(index="variant", columns="seed", values=column, sort=False)
            values = table.reindex(variants).to_numpy()  # a variant without a number is not in the table
            axes.barh(rows + shift, values.mean(axis=1), height=0.38, label=label, alpha=0.7)
            for seed in range(values.shape[1]):
                axes.plot(values[:, seed], rows + shift, "k.", markersize=3)
        axes.axvline(0.95, color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("success rate over all states of the quadrants")
        axes.set_title(f"{group}: mean of {study.seed.nunique()} seeds, dots are seeds", fontsize=10)
        axes.set_yticks(rows, variants, fontsize=8)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=8, loc="lower right")
    return figure


def _draw_control(study: pd.DataFrame) -> Figure:
    environments = list(study.environment.unique())
    variants, stages = list(study.variant.unique()), list(study.stage.unique())
    figure = Figure(figsize=(5.2 * len(environments), 0.36 * len(variants) + 1.6), layout="constrained")
    panels = figure.subplots(1, len(environments), sharey=True, squeeze=False)[0]
    rows = np.arange(len(variants))
    for axes, environment in zip(panels, environments, strict=True):
        for k, stage in enumerate(stages):
            part = study[(study.environment == environment) & (study.stage == stage)]
            estimates = np.array(
                [_interquartile_mean(part[part.variant == v].mean_return.to_numpy()) for v in variants]
            )
            errors = np.abs(estimates[:, 1:] - estimates[:, :1]).T
            place = rows + 0.25 * (k - (len(stages) - 1) / 2)
            axes.errorbar(
                estimates[:, 0], place, xerr=errors, fmt="o", markersize=4, capsize=2, label=f"trained: {stage}"
            )
        axes.set_xlabel("mean return")
        axes.set_title(f"{environment}: IQM of {study.seed.nunique()} seeds, bootstrap over seeds", fontsize=10)
        axes.set_yticks(rows, variants, fontsize=8)
        axes.grid(alpha=0.3)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=8)
    return figure


def _interquartile_mean(scores: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the interquartile mean over seeds, and where 95 % of those of resampled seeds lie (rliable)."""
    np.random.seed(0)  # rliable draws from NumPy's global numbers: the same picture from the same CSV
    points, intervals = library.get_interval_estimates(
        {"scores": scores[:, None]}, lambda x: np.array([metrics.aggregate_iqm(x)]), reps=_BOOTSTRAPS
    )
    low, high = intervals["scores"][:, 0]
    return float(points["scores"][0]), float(low), float(high)
