"""``equirl study``: learning studies by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from equirl.agents.cli.subcommands import run_subcommand
from equirl.experiments.rl.control import CONTROL, ControlOptions
from equirl.experiments.rl.gridworld import GRIDWORLD, GridWorldOptions
from equirl.experiments.rl.minigrid import MINIGRID, MinigridOptions
from equirl.experiments.rl.own import OWN, OwnOptions
from equirl.experiments.rl.tuning import TUNE, TuneOptions
from equirl.experiments.rl.zero_shot import ZERO_SHOT, ZeroShotOptions
from equirl.experiments.study import run_study

__all__ = ["main"]

_USAGE = """\
Learning studies. Each writes study.csv, record.json (settings, versions, machine), summary.md and figures into
logs/study/STUDY, or where --out says. Finished runs are kept: run it again to go on after a stop. The figures of the
project are in experiments/results of a checkout; only an explicit --out writes there.

examples:
  equirl study --env own_module:Own-v0 --symmetry own.toml --methods plain equitune --seeds 3    your own world
  equirl study --env own_module:Own-v0 --symmetry auto     the same; its symmetry is looked for first
  equirl study rl                                          the study of the README (hours on 2 cores)
  equirl study rl --agents plain grid-c4/equitune --seeds 2 --out /tmp/study
  equirl study rl --report-only                            tables and figures from the CSV as it is
  equirl study tune --agents plain grid-d4/canonical       hyperparameters for each agent, by Optuna
  equirl study minigrid --tasks empty-room --seeds 1 --out /tmp/minigrid
  equirl study zero-shot --n-jobs 4 --csv zero_shot.csv
  equirl study control --cluster tcp://10.0.0.1:8786       on the workers of a Dask cluster
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl study`` and return its exit status."""
    studies = {
        "own": (OwnOptions, partial(run_study, OWN)),
        "rl": (GridWorldOptions, partial(run_study, GRIDWORLD)),
        "tune": (TuneOptions, partial(run_study, TUNE)),
        "minigrid": (MinigridOptions, partial(run_study, MINIGRID)),
        "zero-shot": (ZeroShotOptions, partial(run_study, ZERO_SHOT)),
        "control": (ControlOptions, partial(run_study, CONTROL)),
    }
    if any(word.split("=")[0] == "--env" for word in arguments) and arguments[0].startswith("-"):
        arguments = ["own", *arguments]
    return run_subcommand("equirl study", _USAGE, studies, arguments, kind="study")
