"""``equirl benchmark``: learning studies by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from equirl.experiments.benchmark.minigrid import MinigridConfig, report_minigrid, run_minigrid
from equirl.experiments.benchmark.report import report
from equirl.experiments.benchmark.study import StudyConfig, run_study
from equirl.names import unknown_name_message

__all__ = ["main"]

_USAGE = """\
usage: equirl benchmark STUDY [options]        equirl benchmark STUDY --help

studies:
  rl           plain and symmetrized DQN on the 7x7 GridWorld, with equal hyperparameters
  minigrid     plain, augmented and symmetrized DQN and PPO on three MiniGrid tasks

Each writes study.csv (a row per evaluation), record.json, summary.md and learning_curves.png. Finished runs are kept:
run it again to go on after a stop.

examples:
  equirl benchmark rl                                          the study of the README (hours on 2 cores)
  equirl benchmark rl --agents plain grid-c4/equitune --n-seeds 2 --out /tmp/study
  equirl benchmark rl --report-only                            table and plot from the CSV as it is
  equirl benchmark minigrid --tasks empty-room --n-seeds 1 --out /tmp/minigrid
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl benchmark`` and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    study, *rest = arguments
    if study == "rl":
        config = tyro.cli(StudyConfig, args=rest, prog="equirl benchmark rl", description=_USAGE)
        if not config.report_only:
            run_study(config)
        print(report(config.out, config.threshold))
    elif study == "minigrid":
        minigrid = tyro.cli(MinigridConfig, args=rest, prog="equirl benchmark minigrid", description=_USAGE)
        if not minigrid.report_only:
            run_minigrid(minigrid)
        print(report_minigrid(minigrid.out))
    else:
        print(f"equirl benchmark: {unknown_name_message('study', study, ['rl', 'minigrid'])}", file=sys.stderr)
        return 2
    return 0
