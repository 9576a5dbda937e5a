"""Statistics over the runs of a study: interquartile means with bootstrap bands, scores, and pairs won.

Means, performance profiles and their bootstraps are by ``rliable`` (Agarwal et al. 2021, arXiv:2108.13264).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rliable import library
from scipy.stats import trim_mean

from equirl.experiments.tables import markdown_table

__all__ = ["interquartile_means", "performance_profile", "run_scores", "score_table"]

Array = NDArray[np.float64]

_BOOTSTRAPS = 2000
_BASELINE = "plain"


def interquartile_means(
    scores: Mapping[str, Array], repeats: int | None = None
) -> dict[str, tuple[Array, Array, Array]]:
    """Return the interquartile mean over runs, and where 95 % of those of resampled runs lie.

    From a few seeds that band is too narrow to be called a 95 % confidence interval, and where all seeds agree it has
    no width; so figures and tables call it a bootstrap over seeds.

    Args:
        scores: Name to the scores of its runs, ``[runs, n]``.
        repeats: Number of bootstrap samples; by default 2,000.

    Returns:
        Name to mean, lower and upper bound, ``[n]`` each.
    """
    np.random.seed(0)  # rliable draws from NumPy's global numbers: the same figures from the same CSV
    # trim_mean is rliable's aggregate_iqm for all columns at once
    points, intervals = library.get_interval_estimates(
        dict(scores),
        lambda runs: np.asarray(trim_mean(runs, proportiontocut=0.25, axis=0)),
        reps=repeats or _BOOTSTRAPS,
    )
    return {name: (points[name], *intervals[name]) for name in scores}


def performance_profile(scores: Mapping[str, Array], thresholds: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return for each name the share of runs above each threshold, ``[T]``, and its bootstrap band, ``[2, T]``."""
    np.random.seed(0)
    shares, bands = library.create_performance_profile(dict(scores), thresholds, reps=_BOOTSTRAPS)
    return shares, bands


def run_scores(study: pd.DataFrame, horizon: int) -> dict[str, Array]:
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

    The last column counts the pairs of a run of the agent and a run of plain (a tie counts half); so few pairs allow no
    interval that would deserve the name.
    """
    scores = run_scores(study, horizon)
    numbers = {len(runs) for runs in scores.values()}
    runs_each = f"{numbers.pop()} runs" if len(numbers) == 1 else "runs"
    rows = []
    for agent, (middle, low, high) in interquartile_means(scores).items():
        runs = scores[agent]
        span = f"{low.item():.3f} to {high.item():.3f}" if len(runs) > 1 else "-"
        better = _pairs_won(runs, scores[_BASELINE]) if _BASELINE in scores and agent != _BASELINE else "-"
        rows.append((agent, f"{middle.item():.3f}", span, better))
    mean = f"mean success over {horizon:,} steps, IQM"
    return markdown_table(("agent", mean, f"bootstrap over {runs_each}", "a run beats one of plain"), rows)


def _pairs_won(runs: Array, of_plain: Array) -> str:
    """Return the share of pairs in which a run has the higher score, and how many pairs these are."""
    ours, theirs = np.ravel(runs)[:, None], np.ravel(of_plain)[None, :]
    won = float((ours > theirs).sum() + 0.5 * (ours == theirs).sum())
    return f"{won / (ours.size * theirs.size):.2f} ({won:g} of {ours.size * theirs.size} pairs)"
