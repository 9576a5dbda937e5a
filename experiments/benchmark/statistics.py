"""What the runs of a study say about agents: interquartile means, performance profiles, pairs won.

Means, profiles and their stratified bootstraps are by ``rliable`` (Agarwal et al. 2021, arXiv:2108.13264).
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rliable import library, metrics

from equirl.files import written_whole

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
    """Return a Markdown table: interquartile mean of the scores, and how often a run beats one of plain.

    The bootstrap column is where 95 % of the means of resampled seeds lie. It is not called a 95 % interval: from five
    seeds it covers the true mean in fewer studies than that. The last column counts the pairs of a run of the agent
    and a run of plain (a tie counts half); so few pairs allow no interval that would deserve the name.
    """
    scores = run_scores(study, horizon)
    np.random.seed(0)  # rliable draws from NumPy's global numbers: the same table from the same CSV
    points, intervals = library.get_interval_estimates(
        scores, lambda runs: np.array([metrics.aggregate_iqm(runs)]), reps=_BOOTSTRAPS
    )
    numbers = {len(runs) for runs in scores.values()}
    runs_each = f"{numbers.pop()} runs" if len(numbers) == 1 else "runs"
    lines = [
        f"| agent | mean success over {horizon:,} steps, IQM | bootstrap over {runs_each} | a run beats one of plain |",
        "|---|---|---|---|",
    ]
    for agent, runs in scores.items():
        low, high = np.ravel(intervals[agent])
        span = f"{low:.3f} to {high:.3f}" if len(runs) > 1 else "-"
        better = _pairs_won(runs, scores[_BASELINE]) if _BASELINE in scores and agent != _BASELINE else "-"
        lines.append(f"| {agent} | {points[agent][0]:.3f} | {span} | {better} |")
    return "\n".join(lines)


def _pairs_won(runs: NDArray[np.float64], of_plain: NDArray[np.float64]) -> str:
    """Return the share of pairs in which a run has the higher score, and how many pairs these are."""
    ours, theirs = np.ravel(runs)[:, None], np.ravel(of_plain)[None, :]
    won = float((ours > theirs).sum() + 0.5 * (ours == theirs).sum())
    return f"{won / (ours.size * theirs.size):.2f} ({won:g} of {ours.size * theirs.size} pairs)"


def draw_performance_profile(study: pd.DataFrame, horizon: int, picture: Path) -> None:
    """Write a PNG: for each score the share of an agent's runs that are above it, with bootstrap bands over runs."""
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
    axes.set_title(f"Performance profile, {study.seed.nunique()} seeds, bootstrap bands", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
