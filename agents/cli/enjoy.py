"""``equirl enjoy`` and ``equirl record``: rl_zoo3's, with our environments and defaults."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path

from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, arguments_of, peek

__all__ = ["main", "record"]

_DEFAULTS = ("--algo", "dqn", "--env", DEFAULT_ENVIRONMENT, "-f", "logs")

_ENJOY_HELP = """\
usage: equirl enjoy [options of rl_zoo3.enjoy]

Shows a trained agent in a window and prints its returns and success rate.

most used (all of them: equirl enjoy --help-all):
  --env ID        default equirl/GridWorld-v0   -f DIR            folder of the runs, default logs
  --exp-id N      which run (0: the latest)     --load-best       the best agent instead of the last
  -n STEPS        default 1000                  --no-render       without a window
  --seed N        random seed                   --env-kwargs K:V  settings of the environment

examples:
  equirl enjoy -n 300
  equirl enjoy --no-render -n 5000 --env-kwargs "goal:'south-east'"
"""

_RECORD_HELP = """\
usage: equirl record [options of rl_zoo3.record_video]

Records a video (MP4) of a trained agent; by default into the run's folder, under videos/.

most used (all of them: equirl record --help-all):
  --env ID        default equirl/GridWorld-v0   -f DIR            folder of the runs, default logs
  --exp-id N      which run (0: the latest)     --load-best       the best agent instead of the last
  -n STEPS        default 1000                  -o DIR            folder of the video
  --seed N        random seed

examples:
  equirl record -n 200
  equirl record --load-best -o videos
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl enjoy`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_ENJOY_HELP, end="")
        return 0
    from rl_zoo3.enjoy import enjoy  # slow, so only when it is needed

    # One torch thread: networks this small run slower on two.
    with arguments_of("equirl enjoy", ["--num-threads", "1", *_passed_on(arguments)]):
        enjoy()
    return 0


def record(arguments: Sequence[str]) -> int:
    """Run ``equirl record`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_RECORD_HELP, end="")
        return 0
    # The module has no function to call.
    with arguments_of("equirl record", _passed_on(arguments)):
        runpy.run_module("rl_zoo3.record_video", run_name="__main__")
    return 0


def _passed_on(arguments: Sequence[str]) -> list[str]:
    if "--help-all" in arguments:
        return ["--help"]
    passed = [*_DEFAULTS, *arguments]
    folder = Path(peek(passed, "-f", "--folder", default="")) / peek(passed, "--algo", default="")
    # rl_zoo3 downloads agents into its own folder; every other one has to be there.
    if "rl-trained-agents" not in folder.parts and not folder.is_dir():
        raise FileNotFoundError(f"there are no runs in {folder}: train one with `equirl train`, or name the folder: -f")
    return passed
