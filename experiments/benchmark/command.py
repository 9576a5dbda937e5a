"""``equirl benchmark rl``: how many environment steps each method needs, over seeds."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import tyro

from equirl.experiments.benchmark.report import report
from equirl.experiments.benchmark.study import StudyConfig, run_study
from equirl.names import unknown_name_message

__all__ = ["main"]

_USAGE = """\
usage: equirl benchmark rl [options]        equirl benchmark rl --help

Trains plain and symmetrized DQN on the 7x7 GridWorld with equal hyperparameters, and writes study.csv (a row per
evaluation), record.json, summary.md and learning_curves.png. Finished runs are kept: run it again to go on after a
stop.

examples:
  equirl benchmark rl                                          the study of the README (hours on 2 cores)
  equirl benchmark rl --agents plain grid-c4/equitune --n-seeds 2 --out /tmp/study
  equirl benchmark rl --report-only                            table and plot from the CSV as it is
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl benchmark`` and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE, end="")
        return 0
    if arguments[0] != "rl":
        print(f"equirl benchmark: {unknown_name_message('study', arguments[0], ['rl'])}", file=sys.stderr)
        return 2
    config = tyro.cli(StudyConfig, args=list(arguments[1:]), prog="equirl benchmark rl", description=_USAGE)
    if not config.report_only:
        run_study(config)
    print(report(config.out, config.threshold))
    return 0
