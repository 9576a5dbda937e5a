"""Tables and figures of learning studies, from their CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from equirl.experiments.figures import (
    count_axis,
    draw_band,
    legend_outside,
    make_panels,
    reference_line,
    styles_of,
)
from equirl.experiments.records import read_settings
from equirl.experiments.rl.statistics import interquartile_means, performance_profile, run_scores, score_table
from equirl.experiments.study import Report
from equirl.experiments.tables import markdown_table, read_study
from equirl.names import unknown_name_message

__all__ = [
    *("agents_to_draw", "draw_learning_curves", "draw_performance_profile"),
    *("report_learning", "steps_to_threshold", "summary_table"),
]

_COLUMNS = ("agent", "seed", "timesteps", "success_rate", "train_seconds")
_COMMAND = "equirl study rl"
_HORIZON = 20_000
"""Environment steps over which runs are compared; most have learned by then, and plain ones have not."""


def report_learning(folder: Path, threshold: float, plot: Sequence[str] = (), most: int = 5) -> Report:
    """Return the tables of a study on the GridWorld, its learning curves and its performance profile.

    Args:
        folder: The study's folder.
        threshold: Success rate that counts as learned.
        plot: Agents in the figures; by default those of ``agents_to_draw``.
        most: How many agents ``agents_to_draw`` is to choose.

    Raises:
        FileNotFoundError: There is no ``study.csv`` or ``record.json`` in the folder.
        ValueError: They are damaged, or another study's, or an agent to plot is not among them.
    """
    study = read_study(folder / "study.csv", _COLUMNS, _COMMAND, numbers=_COLUMNS[1:])
    settings = read_settings(folder / "record.json", ("size", "total_timesteps"), _COMMAND)
    size, horizon = settings["size"], min(_HORIZON, settings["total_timesteps"])
    for agent in plot:
        if agent not in set(study.agent):
            raise ValueError(unknown_name_message(f"agent in {folder}", agent, study.agent.unique()))
    drawn = study[study.agent.isin(plot or agents_to_draw(study, threshold, most))]
    text = f"{summary_table(study, threshold)}\n\n{score_table(study, horizon)}"
    title = f"DQN on the {size}x{size} GridWorld"
    measure = f"success rate over all {size**2 * (size**2 - 1):,} states"
    curves = draw_learning_curves({title: drawn}, {title: threshold}, measure, horizon)
    profile = draw_performance_profile(drawn, horizon)
    return Report(text, {"learning_curves.png": curves, "performance_profile.png": profile})


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


def agents_to_draw(study: pd.DataFrame, threshold: float, most: int) -> list[str]:
    """Return a few agents that a figure can show: plain, augmentation, and of each method the one that learns fastest.

    Args:
        study: The rows of a study.
        threshold: Success rate that counts as learned.
        most: Number of agents; the fastest methods come first.
    """
    names = [str(name) for name in study.agent.unique()]
    if len(names) <= most:
        return names
    medians = steps_to_threshold(study, threshold).groupby("agent").timesteps.median()
    fastest = sorted(names, key=lambda name: float(medians[name]))

    def method_of(name: str) -> str:
        return name.partition("+")[0].rpartition("/")[2]

    chosen: list[str] = []
    baselines = [name for name in fastest if method_of(name) in ("plain", "augmentation")]
    for one_each in (True, False):
        for name in (*baselines, *fastest):
            if name not in chosen and not (one_each and method_of(name) in map(method_of, chosen)):
                chosen.append(name)
    return [name for name in names if name in chosen[:most]]


def summary_table(study: pd.DataFrame, threshold: float) -> str:
    """Return a Markdown table: median and range over seeds of the steps to the threshold, and the ratio to plain."""
    reached = steps_to_threshold(study, threshold)
    medians = reached.groupby("agent", sort=False).timesteps.median()
    plain = medians.get("plain")
    rows = []
    for agent, runs in reached.groupby("agent", sort=False):
        median = medians[agent]
        rows.append(
            (
                agent,
                f"{np.isfinite(runs.timesteps).sum()} of {len(runs)}",
                *(_number(value) for value in (median, runs.timesteps.min(), runs.timesteps.max())),
                f"{median / plain:.2f}" if plain is not None and np.isfinite(median) else "-",
                _number(runs.train_seconds.median()),
            )
        )
    heads = ("agent", f"seeds at {threshold:.1%}", "steps, median", "min", "max", "ratio to plain")
    return markdown_table((*heads, "training s, median"), rows)


def draw_learning_curves(
    studies: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float], measure: str, horizon: int | None = None
) -> Figure:
    """Draw the success rate over environment steps: interquartile mean over seeds, with its bootstrap band.

    A run that ended because it had learned keeps its last value from there on.

    Args:
        studies: Title of each panel to its rows.
        thresholds: Title to the success rate that counts as learned.
        measure: What the vertical axis shows.
        horizon: Environment steps that are shown; by default all. The legend of a single panel tells of later ones.
    """
    single = len(studies) == 1
    figure, (panels,) = make_panels(1, len(studies), width=7.2 if single else 4 * len(studies), height=4.2)
    styles = styles_of(agent for study in studies.values() for agent in study.agent)
    for axes, (title, study) in zip(panels, studies.items(), strict=True):
        medians = steps_to_threshold(study, thresholds[title]).groupby("agent").timesteps.median()
        steps = np.sort(study.timesteps.unique())
        for agent, rows in study.groupby("agent", sort=False):
            runs = [
                run.set_index("timesteps").success_rate.reindex(steps).ffill().bfill().to_numpy()
                for _, run in rows.groupby("seed")
            ]
            middle, low, high = interquartile_means({"curve": np.stack(runs)})["curve"]
            label = f"{agent}: {_number(medians[agent])}" if single else str(agent)
            draw_band(axes, steps, middle, (low, high), label, styles[str(agent)])
        reference_line(axes, thresholds[title], "" if single else "counts as learned")
        count_axis(axes, "environment steps", horizon)
        axes.set_ylim(0, 1.03)
        seeds = study.seed.nunique()
        what = "one seed" if seeds == 1 else f"interquartile mean of {seeds} seeds, bootstrap over seeds"
        axes.set_title(f"{title}: {what}" if single else f"{title}\n{what}", fontsize=10 if single else 9)
    panels[0].set_ylabel(measure)
    if single:
        threshold = next(iter(thresholds.values()))
        legend_outside(figure, 3, title=f"agent: environment steps to {threshold:.1%} (dashed), median")
    else:
        legend_outside(figure, 4)
    return figure


def draw_performance_profile(study: pd.DataFrame, horizon: int) -> Figure:
    """Draw for each score the share of an agent's runs that are above it, with bootstrap bands over runs."""
    scores = run_scores(study, horizon)
    thresholds = np.linspace(0, 1, 101)
    shares, bands = performance_profile(scores, thresholds)
    figure, ((axes,),) = make_panels(width=7.2, height=4.2)
    for agent, style in styles_of(scores).items():
        draw_band(axes, thresholds, shares[agent], (bands[agent][0], bands[agent][1]), agent, style)
    axes.set(xlabel=f"mean success rate over the first {horizon:,} steps", ylabel="share of runs above", xlim=(0, 1))
    axes.set_title(f"Performance profile, {study.seed.nunique()} seeds, bootstrap bands", fontsize=10)
    axes.grid(alpha=0.3)
    legend_outside(figure, 3)
    return figure


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "not reached"
