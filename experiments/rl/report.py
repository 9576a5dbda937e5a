"""Tables, figures and statistics over the runs of learning studies, from their CSV.

Interquartile means and performance profiles are those of Agarwal et al. (2021), arXiv:2108.13264.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.gate_training import gate_callbacks
from equirl.agents.interquartile import interquartile_interval, interquartile_mean
from equirl.agents.intervals import interval_text, mean_interval, profile_margin, superiority_interval
from equirl.experiments.figures import count_axis, draw_band, legend_outside, make_panels, reference_line, styles_of
from equirl.experiments.records import read_settings
from equirl.experiments.study import Report
from equirl.experiments.tables import Rows, markdown_table, read_study
from equirl.names import unknown_name_message

__all__ = [
    *("COLUMNS", "agents_to_draw", "draw_learning_curves", "draw_performance_profile", "final_table"),
    *(
        "learning_rows",
        "read_learning_study",
        "report_learning",
        "run_scores",
        "score_table",
        "steps_to_threshold",
        "summary_table",
    ),
]

COLUMNS = ("agent", "seed", "timesteps", "success_rate", "train_seconds", "cpu_seconds")

Array = NDArray[np.float64]

_COMMAND = "equirl study rl"
_HORIZON = 20_000
"""Environment steps over which runs are compared; most have learned by then, and plain ones have not."""
_BASELINE = "plain"
_COSTS = ("timesteps", "train_seconds", "cpu_seconds")


def read_learning_study(folder: Path) -> pd.DataFrame:
    """Return the ``study.csv`` of ``equirl study rl`` in a folder.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is damaged, or another study's.
    """
    return read_study(folder / "study.csv", COLUMNS, _COMMAND, numbers=COLUMNS[1:])


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
    study = read_learning_study(folder)
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
    if "gate_mean" in study:
        text += f"\n\n{final_table(study)}"
    return Report(text, {"learning_curves.png": curves, "performance_profile.png": profile})


def learning_rows(
    name: str, about: tuple[Any, ...], agent: BaseAlgorithm, total_timesteps: int, callback: EvaluateAndStop
) -> Rows:
    """Train an agent; a row for each evaluation: ``about``, environment steps, success, seconds, further scores."""
    agent.learn(total_timesteps, callback=[callback, *gate_callbacks(agent)])
    rows: list[tuple[Any, ...]] = []
    for e in callback.evaluations:
        success, *more = (round(score, 4) for score in e.scores)
        rows.append((*about, e.timesteps, success, e.seconds, e.cpu_seconds, *more))
    print(f"{name}: success {success} after {e.timesteps} steps, {e.cpu_seconds} CPU s", flush=True)
    return rows


def steps_to_threshold(study: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """Return environment steps and training seconds at the first evaluation at the threshold or above.

    Returns:
        A row per agent and seed: ``agent, seed, timesteps, train_seconds``, and ``cpu_seconds`` where it was measured;
        infinite where the threshold was not reached.
    """
    run = ["agent", "seed"]
    runs = pd.MultiIndex.from_frame(study[run].dropna().drop_duplicates())
    first = study[study.success_rate >= threshold].drop_duplicates(run).set_index(run)
    return first.reindex(
        index=runs, columns=[name for name in _COSTS if name in study], fill_value=np.inf
    ).reset_index()


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

    baselines = [name for name in fastest if method_of(name) in ("plain", "augmentation")]
    first_of_method: dict[str, str] = {}
    for name in (*baselines, *fastest):
        first_of_method.setdefault(method_of(name), name)
    chosen = list(dict.fromkeys([*first_of_method.values(), *baselines, *fastest]))[:most]
    return [name for name in names if name in chosen]


def summary_table(study: pd.DataFrame, threshold: float, level: str = "") -> str:
    """Return a Markdown table: median and range over seeds of the steps to the threshold, and the ratio to plain.

    The same of the CPU seconds, where they were measured; else the median of the seconds.

    Args:
        study: The rows of a study.
        threshold: What counts as learned.
        level: How the table names the threshold; by default as a share.
    """
    reached = steps_to_threshold(study, threshold)
    plain = reached[reached.agent == _BASELINE]  # empty where there is none
    first = ("agent", f"seeds at {level or format(threshold, '.1%')}", "steps, median", "min", "max", "ratio to plain")
    with_cpu = "cpu_seconds" in reached
    last = ("CPU s, median", "CPU s, min", "CPU s, max", "CPU s to plain") if with_cpu else ("training s, median",)
    rows = []
    for agent, runs in reached.groupby("agent", sort=False):
        cells = [agent, f"{np.isfinite(runs.timesteps).sum()} of {len(runs)}", *_range(runs.timesteps, plain.timesteps)]
        more = _range(runs.cpu_seconds, plain.cpu_seconds, 1) if with_cpu else (_number(runs.train_seconds.median()),)
        rows.append((*cells, *more))
    return markdown_table((*first, *last), rows)


def _range(values: pd.Series, of_plain: pd.Series, digits: int = 0) -> tuple[str, ...]:
    """Return median, least and largest value, and the ratio of the median to that of plain, as texts."""
    median, plain = values.median(), of_plain.median()  # NaN where there is none
    ratio = f"{median / plain:.2f}" if np.isfinite(median) and np.isfinite(plain) else "-"
    return *(_number(value, digits) for value in (median, values.min(), values.max())), ratio


def run_scores(study: pd.DataFrame, horizon: int) -> dict[str, Array]:
    """Return for each agent one score per run, shape ``[seeds, 1]``: mean success rate over the first steps.

    A run that ended because it had learned keeps its last value from there on.

    Args:
        study: Rows ``agent, seed, timesteps, success_rate``, evaluated at equal distances.
        horizon: Environment steps that count.
    """
    distances = study.sort_values("timesteps").groupby(["agent", "seed"]).timesteps.diff()
    every = horizon if distances.isna().all() else int(distances.min())
    curves = _curves(study, np.arange(every, horizon + 1, every))
    return {agent: runs.mean().to_numpy()[:, None] for agent, runs in curves.items()}


def score_table(study: pd.DataFrame, horizon: int, measure: str = "success") -> str:
    """Return a Markdown table: interquartile mean of the scores, and how often a run beats one of plain.

    The last column is the share of pairs of a run of the agent and a run of plain that the agent wins (a tie counts
    half). The intervals are those of ``interquartile_interval`` and ``superiority_interval``.
    """
    scores = run_scores(study, horizon)
    numbers = {len(runs) for runs in scores.values()}
    runs_each = f"{numbers.pop()} runs" if len(numbers) == 1 else "runs"
    rows = []
    returns = measure.startswith("mean")
    for agent, runs in scores.items():
        span = interval_text(interquartile_interval(runs[:, 0], None if returns else (0, 1)), ".3f")
        better = _pairs_won(runs, scores[_BASELINE]) if _BASELINE in scores and agent != _BASELINE else "-"
        rows.append((agent, f"{interquartile_mean(runs).item():.3f}", span, better))
    mean = f"{'' if returns else 'mean '}{measure} over {horizon:,} steps, IQM"
    heads = ("agent", mean, f"95 % interval, {runs_each}", "a run beats one of plain, 95 % interval")
    return markdown_table(heads, rows)


def final_table(study: pd.DataFrame, last: int = 5) -> str:
    """Return a Markdown table: success of the last evaluations, and the gates of partial agents, means over seeds.

    Args:
        study: Rows of a study with ``gate_mean`` and ``gate_auc``.
        last: Evaluations of each run that count.
    """
    ends = study.groupby(["agent", "seed"], sort=False).tail(last)
    final = ends.groupby(["agent", "seed"], sort=False)[["success_rate", "gate_mean", "gate_auc"]].mean()
    rows = []
    for agent, runs in final.groupby("agent", sort=False):
        cells = []
        for name in final:
            values = runs[name].dropna().to_numpy()
            bounds = np.clip(mean_interval(values), 0, 1) if len(values) > 1 else None
            interval = "-" if bounds is None else interval_text((bounds[0], bounds[1]), ".3f")
            cells += ["-", "-"] if not len(values) else [f"{values.mean():.3f}", interval]
        rows.append((agent, *cells))
    heads = ("agent", f"success, last {last} evaluations", "95 %", "gate, mean", "95 %", "gate's ROC area", "95 %")
    return markdown_table(heads, rows)


def draw_learning_curves(
    studies: Mapping[str, pd.DataFrame],
    thresholds: Mapping[str, float] | Mapping[str, float | None],
    measure: str,
    horizon: int | None = None,
) -> Figure:
    """Draw the success rate over environment steps: interquartile mean over seeds, in a band of all seeds.

    A run that ended because it had learned keeps its last value from there on.

    Args:
        studies: Title of each panel to its rows.
        thresholds: Title to the success rate that counts as learned; ``None`` if none does.
        measure: What the vertical axis shows: a success rate, whose name begins with "success", or returns.
        horizon: Environment steps that are shown; by default all. The legend of a single panel tells of later ones.
    """
    single = len(studies) == 1
    figure, (panels,) = make_panels(1, len(studies), width=7.2 if single else 4 * len(studies), height=4.2)
    styles = styles_of(agent for study in studies.values() for agent in study.agent)
    for axes, (title, study) in zip(panels, studies.items(), strict=True):
        threshold = thresholds[title]
        reached = steps_to_threshold(study, np.inf if threshold is None else threshold)
        medians = reached.groupby("agent").timesteps.median()
        steps = np.sort(study.timesteps.unique())
        for agent, runs in _curves(study, steps).items():
            values = runs.bfill().to_numpy().T
            label = f"{agent}: {_number(medians[agent])}" if single and threshold is not None else agent
            draw_band(axes, steps, interquartile_mean(values), (values.min(0), values.max(0)), label, styles[agent])
        if threshold is not None:
            reference_line(axes, threshold, "" if single else "counts as learned")
        count_axis(axes, "environment steps", horizon)
        if study.success_rate.between(0, 1).all():
            axes.set_ylim(0, 1.03)
        seeds = study.seed.nunique()
        what = "one seed" if seeds == 1 else f"interquartile mean of {seeds} seeds, band: all seeds"
        axes.set_title(f"{title}: {what}" if single else f"{title}\n{what}", fontsize=10 if single else 9)
    panels[0].set_ylabel(measure)
    if single and threshold is not None:
        shown = f"{threshold:.1%}" if measure.startswith("success") else f"{threshold:g}"
        legend_outside(figure, 3, title=f"agent: environment steps to {shown} (dashed), median")
    else:
        legend_outside(figure, 4)
    return figure


def draw_performance_profile(study: pd.DataFrame, horizon: int, measure: str = "success rate") -> Figure:
    """Draw for each score the share of an agent's runs that are above it; the title has the width of the 95 % band."""
    scores = run_scores(study, horizon)
    found = np.concatenate(list(scores.values()))
    thresholds = np.linspace(min(0, found.min()), max(1, found.max()), 101)
    figure, ((axes,),) = make_panels(width=7.2, height=4.2)
    for agent, style in styles_of(scores).items():
        axes.plot(thresholds, (scores[agent] > thresholds).mean(axis=0), label=agent, **{**style, "marker": ""})
    axes.set(ylabel="share of runs above", xlim=(thresholds[0], thresholds[-1]))
    axes.set_xlabel(f"{'' if measure.startswith('mean') else 'mean '}{measure} over the first {horizon:,} steps")
    numbers = sorted({len(runs) for runs in scores.values()})
    margins = " or ".join(f"±{profile_margin(n):.2f} ({n} runs)" for n in numbers)
    axes.set_title(f"Performance profile; 95 % band around each curve: {margins}", fontsize=10)
    axes.grid(alpha=0.3)
    legend_outside(figure, 3)
    return figure


def _curves(study: pd.DataFrame, steps: ArrayLike) -> dict[str, pd.DataFrame]:
    """Return for each agent the success rates, a row for each step and a column for each seed."""
    return {
        str(agent): rows.pivot(index="timesteps", columns="seed", values="success_rate")
        .ffill()
        .reindex(steps, method="ffill")
        for agent, rows in study.groupby("agent", sort=False)
    }


def _pairs_won(runs: Array, of_plain: Array) -> str:
    """Return the share of pairs in which a run has the higher score, its interval, and how many pairs these are."""
    ours, theirs = np.ravel(runs)[:, None], np.ravel(of_plain)[None, :]
    won = float((ours > theirs).sum() + 0.5 * (ours == theirs).sum())
    interval = interval_text(superiority_interval(won, ours.size, theirs.size), ".2f")
    return f"{won / (ours.size * theirs.size):.2f} ({interval}), {won:g} of {ours.size * theirs.size} pairs"


def _number(value: float, digits: int = 0) -> str:
    return f"{value:,.{digits}f}" if np.isfinite(value) else "not reached"
