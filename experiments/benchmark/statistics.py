"""What the runs of a study say about agents: interquartile means, performance profiles, probability of improvement.

All by ``rliable`` (Agarwal et al. 2021, arXiv:2108.13264), with stratified bootstrap intervals.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rliable import library, metrics

from equirl.agents.files import written_whole

__all__ = ["draw_performance_profile", "run_scores", "score_table"]

_BOOTSTRAPS = 2000
_BASELINE = "plain"


def run_scores(study: pd.DataFrame, horizon: int) -> dict[str, NDArray[np.float64]]:
    """Return for each agent one score per run, shape ``[seeds, 1]``: mean success rate over the first steps.

    A run that ended because it had learned keeps its last value from there on.

    Args:
        study: Rows ``agent, seed, timesteps, success_rate``, evaluated at equal distances.
        horizon: Environment steps that count.
    """
    every = int(np.diff(np.sort(study.timesteps.unique())).min()) if study.timesteps.nunique() > 1 else horizon
    steps = np.arange(every, horizon + 1, every)
    scores = {}
    for agent, rows in study.groupby("agent", sort=False):
        curves = [run.set_index("timesteps").success_rate.reindex(steps).ffill() for _, run in rows.groupby("seed")]
        scores[str(agent)] = np.array([[curve.mean()] for curve in curves])
    return scores


def score_table(study: pd.DataFrame, horizon: int) -> str:
    """Return a Markdown table: interquartile mean of the scores, and the probability that a run beats one of plain."""
    scores = run_scores(study, horizon)
    np.random.seed(0)  # rliable draws from NumPy's global numbers: the same table from the same CSV
    points, intervals = library.get_interval_estimates(
        scores, lambda runs: np.array([metrics.aggregate_iqm(runs)]), reps=_BOOTSTRAPS
    )
    better: dict[str, str] = {}
    if _BASELINE in scores:
        pairs = {agent: (runs, scores[_BASELINE]) for agent, runs in scores.items() if agent != _BASELINE}
        if pairs:
            probabilities, spans = library.get_interval_estimates(
                pairs, metrics.probability_of_improvement, reps=_BOOTSTRAPS
            )
            better = {
                agent: f"{float(np.squeeze(probabilities[agent])):.2f} "
                f"({float(np.ravel(spans[agent])[0]):.2f} to {float(np.ravel(spans[agent])[1]):.2f})"
                for agent in pairs
            }
    lines = [
        f"| agent | mean success over {horizon:,} steps, IQM | 95 % interval | P(a run beats one of plain) |",
        "|---|---|---|---|",
    ]
    for agent in scores:
        low, high = np.ravel(intervals[agent])
        lines.append(f"| {agent} | {points[agent][0]:.3f} | {low:.3f} to {high:.3f} | {better.get(agent, '-')} |")
    return "\n".join(lines)


def draw_performance_profile(study: pd.DataFrame, horizon: int, picture: Path) -> None:
    """Write a PNG: for each score the share of an agent's runs that are above it, with 95 % bands."""
    scores = run_scores(study, horizon)
    thresholds = np.linspace(0, 1, 101)
    np.random.seed(0)
    shares, bands = library.create_performance_profile(scores, thresholds, reps=_BOOTSTRAPS)
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    axes.set_prop_cycle(color=matplotlib.color_sequences["tab10" if len(scores) <= 10 else "tab20"])
    for agent in scores:
        (line,) = axes.plot(thresholds, shares[agent], label=agent)
        axes.fill_between(thresholds, *bands[agent], alpha=0.12, color=line.get_color(), linewidth=0)
    axes.set_xlabel(f"mean success rate over the first {horizon:,} steps")
    axes.set_ylabel("share of runs above")
    axes.set_title(f"Performance profile, {study.seed.nunique()} seeds, 95 % bands", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
