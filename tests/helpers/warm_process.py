"""Python processes for tests, without the seconds that each would take to import torch and Stable-Baselines3.

One process a test worker imports these libraries and forks a child for each program. A child has a process of its own,
with its own arguments, folder, environment and output; equirl's modules are there, nothing that a test did is.

Some tests start a fresh interpreter nevertheless, as that is what they are about: what an import loads
(``test_architecture.py``), the overview of commands and a mistake in a process (``test_commands.py``,
``test_mistakes.py``), a policy that opens where nothing has been imported (``test_dqn.py``), and the installed wheel.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WARM = ("equirl.agents.cli.train", "equirl.agents.cli.enjoy", "equirl.experiments.vision.training", "rl_zoo3.train")


@dataclass(frozen=True)
class Program:
    """A Python program to run.

    Attributes:
        arguments: What follows ``python``: ``-c CODE``, ``-m MODULE`` or a file, and the program's own arguments.
        cwd: Its working folder.
        environment: Environment variables besides those of this process.
    """

    arguments: Sequence[str]
    cwd: Path
    environment: Mapping[str, str] | None = None


def run_python(*arguments: str, cwd: Path, environment: Mapping[str, str] | None = None) -> Any:
    """Run one program and return its ``subprocess.CompletedProcess``."""
    (done,) = run_together(Program(arguments, cwd, environment))
    return done


def run_together(*programs: Program, timeout: float = 300) -> list[subprocess.CompletedProcess[str]]:
    """Run programs at the same time and return what became of each.

    Raises:
        TimeoutError: They took longer than ``timeout`` seconds.
    """
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            {
                "arguments": [str(argument) for argument in program.arguments],
                "cwd": str(program.cwd),
                "environment": {**os.environ, **(program.environment or {})},
                "output": [f"{folder}/{number}.out", f"{folder}/{number}.err"],
            }
            for number, program in enumerate(programs)
        ]
        server.stdin.write(json.dumps(jobs) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], timeout)[0]:
            os.killpg(server.pid, signal.SIGKILL)
            _server.cache_clear()
            raise TimeoutError(f"{programs} took longer than {timeout} seconds")
        statuses = json.loads(server.stdout.readline())
        told = [[Path(path).read_text(encoding="utf-8", errors="replace") for path in job["output"]] for job in jobs]
    return [
        subprocess.CompletedProcess([sys.executable, *program.arguments], status, *texts)
        for program, status, texts in zip(programs, statuses, told, strict=True)
    ]


@functools.cache
def _server() -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__))],
        cwd=tempfile.gettempdir(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    atexit.register(_end, server)
    return server


def _end(server: subprocess.Popen[str]) -> None:
    if server.stdin is not None:
        server.stdin.close()
    server.wait()


def _serve() -> None:
    """Import the libraries; then fork the children of each line of jobs, and answer with their exit statuses."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # libraries greet on standard output
    sys.path.pop(0)  # the folder of this file
    for name in WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    while line := sys.stdin.readline():
        children = []
        for job in json.loads(line):
            pid = os.fork()
            if not pid:
                answers.close()
                _become(job)
            children.append(pid)
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        answers.write(json.dumps(statuses) + "\n")
        answers.flush()


def _become(job: dict[str, Any]) -> None:
    """Run a program in this process, as ``python`` would, and end with its exit status."""
    status = 1
    try:
        for number, name in enumerate([os.devnull, *job["output"]]):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(job["environment"])
        os.chdir(job["cwd"])
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        random.seed()
        status = _status(job["arguments"])
        threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as the end of a program does
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _status(arguments: list[str]) -> int:
    try:
        _execute(*arguments)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _execute(option: str, *arguments: str) -> None:
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = main
    if option == "-c":
        code, *rest = arguments
        sys.argv[:] = ["-c", *rest]
        sys.path.insert(0, "")
        exec(compile(code, "<string>", "exec"), vars(main))
    elif option == "-m":
        name, *rest = arguments
        sys.argv[:] = [name, *rest]
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = [option, *arguments]
        sys.path.insert(0, str(Path(option).resolve().parent))
        exec(compile(Path(option).read_text(encoding="utf-8"), option, "exec"), vars(main))


if __name__ == "__main__":
    _serve()
