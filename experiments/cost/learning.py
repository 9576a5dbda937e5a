"""Wall time and environment steps until the GridWorld is learned, from the learning study."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from equirl.experiments.cost.measurement import Measurement
from equirl.experiments.rl.report import steps_to_threshold
from equirl.experiments.tables import read_study
from equirl.experiments.timing import Settings

__all__ = ["LEARNING", "read_learning"]

LEARNING = "learning the 7x7 GridWorld (97.5 % of all states)"


def read_learning(study: Path, settings: Settings) -> Iterator[Measurement]:
    """Yield training seconds to the threshold, median over the seeds, of each agent of a study.

    Evaluations are not counted. Agents that did not learn with most of their seeds have infinite seconds.

    Args:
        study: Folder with the ``study.csv`` of ``equirl study rl``.
        settings: For the columns on device and threads.

    Raises:
        ValueError: The file is damaged, or another study's.
    """
    columns = ("agent", "seed", "timesteps", "success_rate", "train_seconds")
    table = read_study(study / "study.csv", columns, "equirl study rl", numbers=columns[1:])
    reached = steps_to_threshold(table, 0.975)
    by_agent = {agent: rows.sort_values("seed") for agent, rows in reached.groupby("agent", sort=False)}
    plain = by_agent["plain"].train_seconds.median() if "plain" in by_agent else float("nan")
    for agent, rows in by_agent.items():
        low, middle, high = np.percentile(rows.train_seconds, [25, 50, 75], method="nearest")
        symmetry, _, method = str(agent).rpartition("/")
        yield Measurement(
            LEARNING,
            method,
            symmetry.removeprefix("grid-").upper() or "-",
            "mlp",
            7,
            64,
            float(middle),
            float(low),
            float(high),
            ratio_to_plain=float(middle / plain) if math.isfinite(plain) else math.nan,
            rounds=len(rows),
            steps=float(rows.timesteps.median()),
            device=settings.device_name,
            threads=settings.threads,
        )
