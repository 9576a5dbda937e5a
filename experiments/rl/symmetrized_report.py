"""Tables and figures of the studies that symmetrize trained agents, from their CSVs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from equirl.experiments.figures import COLORS, legend_outside, make_panels, name_rows, reference_line
from equirl.experiments.rl.statistics import Array, interquartile_means
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study

__all__ = ["report_control", "report_grid"]

_BOOTSTRAPS = 5000
_GRID_COLUMNS = (
    *("group", "variant", "seed", "success_known", "success_unseen", "seconds"),
    *("familiar_share", "value_familiar", "value_unfamiliar"),
)
_CONTROL_COLUMNS = ("environment", "stage", "variant", "seed", "mean_return")


def report_grid(folder: Path) -> Report:
    """Return the table and the figure of ``equirl study zero-shot``.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    path = folder / "study.csv"
    command, numbers = "equirl study zero-shot", _GRID_COLUMNS[2:]
    study = read_study(path, _GRID_COLUMNS, command, numbers=numbers, dtype={"variant": str})
    variants = {group: set(rows.variant) for group, rows in study.groupby("group", dropna=False)}
    for group, known in variants.items():
        if known != set(study.variant):
            lacking = ", ".join(sorted(map(str, set(study.variant) - known)))
            raise ValueError(f"{path}: the group {group} has no rows of {lacking}; it is damaged")
    rows = []
    for (group, variant), runs in study.groupby(["group", "variant"], sort=False):
        if variant == "plain" and group != study.group.iloc[0]:
            continue  # the same agents under every group
        rows.append(
            (
                "-" if variant == "plain" else group,
                variant,
                *(f"{runs[column].mean():.3f}" for column in ("success_known", "success_unseen")),
                f"{runs.success_unseen.min():.3f}",
                *(
                    "-" if runs[column].isna().any() else f"{runs[column].mean():.2f}"
                    for column in ("familiar_share", "value_familiar", "value_unfamiliar")
                ),
                "-" if variant == "plain" else f"{runs.seconds.median():.1f}",
            )
        )
    heads = ("group", "variant", "known quadrant", "three unseen", "unseen, worst seed", "familiar views")
    text = markdown_table((*heads, "max Q familiar", "max Q unfamiliar", "seconds"), rows)
    return Report(text, {"success.png": _draw_grid(study)})


def report_control(folder: Path) -> Report:
    """Return the table and the figure of ``equirl study control``.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is damaged, or another study's.
    """
    study = read_study(folder / "study.csv", _CONTROL_COLUMNS, "equirl study control", numbers=("mean_return",))
    rows, estimates = [], {}
    for (environment, stage, variant), runs in study.groupby(["environment", "stage", "variant"], sort=False):
        returns: Array = runs.mean_return.to_numpy()[:, None]
        bounds = interquartile_means({"return": returns}, _BOOTSTRAPS)["return"]
        estimates[environment, stage, variant] = middle, low, high = tuple(bound.item() for bound in bounds)
        each = ", ".join(f"{value:.0f}" for value in runs.mean_return)
        rows.append((environment, stage, variant, f"{middle:.1f}", f"{low:.1f} to {high:.1f}", each))
    heads = ("environment", "trained for", "variant", "return, IQM of seeds", "bootstrap over seeds", "each seed")
    return Report(markdown_table(heads, rows), {"returns.png": _draw_control(study, estimates)})


def _draw_grid(study: pd.DataFrame) -> Figure:
    groups, variants = list(study.group.unique()), list(study.variant.unique())
    figure, (panels,) = make_panels(
        1, len(groups), width=2.6 + 3.6 * len(groups), height=0.34 * len(variants) + 1.6, share_y=True
    )
    rows = np.arange(len(variants))
    for axes, group in zip(panels, groups, strict=True):
        for shift, column, label, color in (
            (-0.2, "success_known", "known quadrant", COLORS[6]),
            (0.2, "success_unseen", "three unseen quadrants", COLORS[1]),
        ):
            table = study[study.group == group].pivot_table(index="variant", columns="seed", values=column, sort=False)
            values = table.reindex(variants).to_numpy()  # a variant without a number is not in the table
            axes.barh(rows + shift, values.mean(axis=1), height=0.38, label=label, color=color)
            for seed in range(values.shape[1]):
                axes.plot(values[:, seed], rows + shift, "k.", markersize=3, label="one seed")
        reference_line(axes, 0.95, "0.95", horizontal=False)
        axes.set(xlabel="success rate over all states", xlim=(0, 1.02))
        axes.set_title(f"{group}: mean of {study.seed.nunique()} seeds", fontsize=10)
        name_rows(axes, variants)
    legend_outside(figure)
    return figure


def _draw_control(study: pd.DataFrame, estimates: Mapping[tuple[str, str, str], tuple[float, ...]]) -> Figure:
    environments = list(study.environment.unique())
    variants, stages = list(study.variant.unique()), list(study.stage.unique())
    figure, (panels,) = make_panels(
        1, len(environments), width=2.4 + 3.6 * len(environments), height=0.36 * len(variants) + 1.6, share_y=True
    )
    rows = np.arange(len(variants))
    for axes, environment in zip(panels, environments, strict=True):
        for k, stage in enumerate(stages):
            nothing = (np.nan,) * 3
            bounds = np.array([estimates.get((environment, stage, variant), nothing) for variant in variants])
            axes.errorbar(
                bounds[:, 0],
                rows + 0.25 * (k - (len(stages) - 1) / 2),
                xerr=np.abs(bounds[:, 1:] - bounds[:, :1]).T,
                fmt="os^D"[k % 4],
                color=COLORS[(1, 2, 4, 3)[k % 4]],
                markersize=4,
                capsize=2,
                label=f"trained: {stage}",
            )
        axes.set_xlabel("mean return of an episode")
        axes.set_title(f"{environment}: IQM of {study.seed.nunique()} seeds, bootstrap over seeds", fontsize=9)
        axes.grid(alpha=0.3)
        name_rows(axes, variants)
    legend_outside(figure)
    return figure
