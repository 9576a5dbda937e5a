"""From the CSV of a study to its table and its plot."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rliable import library
from scipy.stats import trim_mean

from equirl.experiments.benchmark.statistics import draw_performance_profile, score_table
from equirl.experiments.study_files import read_settings, read_study
from equirl.files import written_whole

__all__ = ["draw_learning_curves", "report", "steps_to_threshold", "summary_table"]

_BOOTSTRAPS = 2000
_COLUMNS = ("agent", "seed", "timesteps", "success_rate", "train_seconds")
_COMMAND = "equirl benchmark rl"
_HORIZON = 20_000
"""Environment steps over which runs are compared; most have learned by then, and plain ones have not."""


def report(folder: Path, threshold: float) -> str:
    """Write ``summary.md``, ``learning_curves.png`` and ``performance_profile.png`` beside ``study.csv``.

    Args:
        folder: The study's folder.
        threshold: Success rate that counts as learned.

    Returns:
        The tables.

    Raises:
        FileNotFoundError: There is no ``study.csv`` or ``record.json`` in the folder.
        ValueError: They are damaged, or another study's.
    """
    study = read_study(folder / "study.csv", _COLUMNS, _COMMAND, numbers=_COLUMNS[1:])
    settings = read_settings(folder / "record.json", ("size", "total_timesteps"), _COMMAND)
    size, horizon = settings["size"], min(_HORIZON, settings["total_timesteps"])
    table = f"{summary_table(study, threshold)}\n\n{score_table(study, horizon)}"
    draw_performance_profile(study, horizon, folder / "performance_profile.png")
    with written_whole(folder / "summary.md") as temporary:
        temporary.write_text(table + "\n")
    with written_whole(folder / "learning_curves.png") as temporary:
        title = f"{size}x{size} GridWorld, DQN"
        draw_learning_curves({title: study}, {title: threshold}, "success rate over all states").savefig(
            temporary, dpi=150, format="png"
        )
    return table


def steps_to_threshold(study: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return environment steps and training seconds at the first evaluation at the threshold or above.

    Returns:
        A row per agent and seed: ``agent, seed, timesteps, train_seconds``; infinite where it was not reached.
    """
    rows = []
    for (agent, seed), run in study.groupby(["agent", "seed"], sort=False):
        reached = run[run.success_rate >= threshold]
        first = (reached.timesteps.iloc[0], reached.train_seconds.iloc[0]) if len(reached) else (np.inf, np.inf)
        rows.append((agent, seed, *first))
    return pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "train_seconds"])


def summary_table(study: pd.DataFrame, threshold: float) -> str:
    """Return a Markdown table: median and range over seeds of the steps to the threshold, and the ratio to plain."""
    reached = steps_to_threshold(study, threshold)
    medians = reached.groupby("agent", sort=False).timesteps.median()
    plain = medians.get("plain")
    lines = [
        f"| agent | seeds at {threshold:.1%} | steps, median | min | max | ratio to plain | training s, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for agent, runs in reached.groupby("agent", sort=False):
        median = medians[agent]
        ratio = f"{median / plain:.2f}" if plain is not None and np.isfinite(median) else "-"
        cells = [
            str(agent),
            f"{np.isfinite(runs.timesteps).sum()} of {len(runs)}",
            *(_number(value) for value in (median, runs.timesteps.min(), runs.timesteps.max())),
            ratio,
            _number(runs.train_seconds.median()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_learning_curves(studies: dict[str, pd.DataFrame], thresholds: dict[str, float], measure: str) -> Figure:
    """Draw the success rate over environment steps: interquartile mean over seeds, with its bootstrap band (rliable).

    The band is where 95 % of the interquartile means of resampled seeds lie. From a few seeds it is too narrow to be
    called a 95 % confidence interval, and where all seeds agree it has no width; so the title calls it what it is.

    A run that ended because it had learned keeps its last value from there on.

    Args:
        studies: Title of each panel to its rows.
        thresholds: Title to the success rate that counts as learned.
        measure: What the vertical axis shows.
    """
    figure = Figure(figsize=(7.2, 4.4) if len(studies) == 1 else (4.2 * len(studies), 3.8), layout="constrained")
    panels = figure.subplots(1, len(studies), squeeze=False)[0]
    for axes, (title, study) in zip(panels, studies.items(), strict=True):
        _draw_panel(axes, study)
        axes.axhline(thresholds[title], color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("environment steps")
        seeds = study.seed.nunique()
        what = "one seed" if seeds == 1 else f"interquartile mean of {seeds} seeds, bootstrap over seeds"
        axes.set_title(f"{title}: {what}" if len(studies) == 1 else f"{title}\n{what}", fontsize=10)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    panels[0].set_ylabel(measure)
    return figure


def _draw_panel(axes: Axes, study: pd.DataFrame) -> None:
    steps = np.sort(study.timesteps.unique())
    axes.set_prop_cycle(color=matplotlib.color_sequences["tab10" if study.agent.nunique() <= 10 else "tab20"])
    for agent, rows in study.groupby("agent", sort=False):
        curves: NDArray[np.float64] = np.stack(
            [
                run.set_index("timesteps").success_rate.reindex(steps).ffill().bfill().to_numpy()
                for _, run in rows.groupby("seed")
            ]
        )
        middle, band = _interquartile_mean(curves)
        (line,) = axes.plot(steps, middle, label=agent)
        axes.fill_between(steps, *band, alpha=0.15, color=line.get_color(), linewidth=0)


def _interquartile_mean(curves: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IQM, shape ``[T]``, and its bootstrap band, shape ``[2, T]``, of curves ``[seeds, T]``."""

    def statistic(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        # rliable's aggregate_iqm at every step at once
        return np.asarray(trim_mean(scores, proportiontocut=0.25, axis=0))

    np.random.seed(0)  # rliable draws from NumPy's global numbers: the same picture from the same CSV
    points, intervals = library.get_interval_estimates({"curve": curves}, statistic, reps=_BOOTSTRAPS)
    return points["curve"], intervals["curve"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "not reached"
