"""The command ``equirl`` as tests call it: in a process of its own, or, which is faster, in this one."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from warm_process import run_python

from equirl.agents.cli import main

FAST = ["learning_starts:20", "n_timesteps:120", "n_envs:1"]
QUICK = ["--eval-freq", "60", "--eval-episodes", "4", "--env-kwargs", "size:4", "--seed", "3"]
SHORT = ["--summary-episodes", "0", "--eval-freq", "-1", "--verbose", "0"]


@dataclass(frozen=True)
class Outcome:
    """What a command gave.

    Attributes:
        status: Exit status.
        out: What it printed.
        err: The lines of its standard error.
    """

    status: int
    out: str
    err: list[str]

    def line(self, start: str) -> str:
        """Return the printed line that starts so, without spaces at its ends."""
        (found,) = [line.strip() for line in self.out.splitlines() if line.strip().startswith(start)]
        return found


def here(*arguments: str) -> Outcome:
    """Run the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(arguments)
    return Outcome(status, out.getvalue(), [line for line in err.getvalue().splitlines() if line.strip()])


def done(*arguments: str) -> Outcome:
    """Run the command in this process; it succeeds."""
    outcome = here(*arguments)
    assert outcome.status == 0, outcome.out[-2000:] + "\n".join(outcome.err[-20:])
    return outcome


def in_process(*arguments: str, cwd: Path, status: int = 0, fresh: bool = False) -> str:
    """Run the command in a process of its own and return all that it printed.

    Args:
        arguments: What follows ``equirl``.
        cwd: Its working folder.
        status: The exit status that it is to have.
        fresh: Whether to start a new interpreter, which takes seconds to import torch.
    """
    environment = {"MPLBACKEND": "Agg", "SDL_VIDEODRIVER": "dummy", "COLUMNS": "120"}
    if fresh:
        command, settings = [sys.executable, "-m", "equirl", *arguments], {**os.environ, **environment}
        run = subprocess.run(command, cwd=cwd, env=settings, capture_output=True, text=True, timeout=300, check=False)
    else:
        run = run_python("-m", "equirl", *arguments, cwd=cwd, environment=environment)
    assert run.returncode == status, run.stdout[-3000:] + run.stderr[-3000:]
    return str(run.stdout + run.stderr)


def next_command(outcome: Outcome) -> list[str]:
    """Return the arguments of the ``equirl enjoy`` that ``equirl train`` printed."""
    (words,) = [shlex.split(line) for line in outcome.out.splitlines() if "equirl enjoy" in line]
    return words[words.index("enjoy") :]


def config(folder: Path, run: int = 1) -> dict[str, Any]:
    """Return the hyperparameters that a run in the grid saved."""
    path = folder / f"logs/dqn/equirl-GridWorld-v0_{run}/equirl-GridWorld-v0/config.yml"
    return dict(yaml.unsafe_load(path.read_text()))
