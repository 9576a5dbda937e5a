"""``equirl benchmark``: learning studies by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from equirl.experiments.benchmark.minigrid import MinigridConfig, report_minigrid, run_minigrid
from equirl.experiments.benchmark.report import report
from equirl.experiments.benchmark.study import StudyConfig, run_study
from equirl.experiments.subcommands import run_command
from equirl.experiments.zero_shot.control import ControlConfig, run_control
from equirl.experiments.zero_shot.grid import ZeroShotConfig, run_zero_shot
from equirl.experiments.zero_shot.report import report_control, report_grid
from equirl.names import unknown_name_message

__all__ = ["main"]

_USAGE = """\
usage: equirl benchmark STUDY [options]        equirl benchmark STUDY --help

studies:
  rl           plain and symmetrized DQN on the 7x7 GridWorld, with equal hyperparameters
  minigrid     plain, augmented and symmetrized DQN and PPO on three MiniGrid tasks
  zero-shot    DQN trained on goals in one quadrant of the grid, then symmetrized: the other three quadrants
  control      CartPole and Acrobot agents, partly and fully trained, then symmetrized

Each writes study.csv, record.json (settings, versions, machine), summary.md and a plot into logs/benchmark/STUDY, or
where --out says. Finished runs are kept: run it again to go on after a stop. The figures of the project are in
experiments/results of a checkout; only an explicit --out writes there.

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
    if study not in _STUDIES:
        print(f"equirl benchmark: {unknown_name_message('study', study, _STUDIES)}", file=sys.stderr)
        return 2
    config_class, run, report_on = _STUDIES[study]

    def run_and_report(config: Any) -> int:
        if not config.report_only:
            run(config)
        print(report_on(config))
        written = "summary.md and plots" if config.report_only else "study.csv, record.json, summary.md and plots"
        print(f"\nWritten to {config.out}: {written}")
        return 0

    return run_command(f"equirl benchmark {study}", config_class, run_and_report, rest, _USAGE)


_STUDIES: dict[str, tuple[type[Any], Callable[[Any], None], Callable[[Any], str]]] = {
    "rl": (StudyConfig, run_study, lambda config: report(config.out, config.threshold)),
    "minigrid": (MinigridConfig, run_minigrid, lambda config: report_minigrid(config.out)),
    "zero-shot": (ZeroShotConfig, run_zero_shot, lambda config: report_grid(config.out)),
    "control": (ControlConfig, run_control, lambda config: report_control(config.out)),
}
