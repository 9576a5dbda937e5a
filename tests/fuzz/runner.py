"""The runner: inputs by number and seed, a time limit for each in long runs, a summary, a CSV."""

# ruff: noqa: T201  # a command-line program prints

from __future__ import annotations

import argparse
import csv
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from fuzz.agent_folder_targets import agent_folder_targets
from fuzz.agent_targets import agent_targets
from fuzz.command_lines import CommandTarget, try_line
from fuzz.command_targets import command_targets, make_folder
from fuzz.core_targets import core_targets
from fuzz.env_targets import env_targets
from fuzz.experiment_targets import experiment_targets
from fuzz.file_targets import FileTarget, file_targets, try_file
from fuzz.network_targets import network_targets
from fuzz.oracle import Finding
from fuzz.plane_targets import plane_targets, robot_targets
from fuzz.symmetry_file_targets import symmetry_file_targets
from fuzz.target import Target, Trial, try_call

__all__ = ["FAMILIES", "Fuzzer", "main"]

FAMILIES = ("core", "envs", "agents", "experiments", "files", "commands")

_SHARES = ("core",) * 5 + ("envs",) * 4 + ("agents",) * 4 + ("experiments",) * 3 + ("files",) * 3 + ("commands",) * 3
"""Which families take turns, and how often."""

_MAKERS: dict[str, Callable[[], list[Any]]] = {
    "core": lambda: [*core_targets(), *network_targets(), *plane_targets()],
    "envs": lambda: [*env_targets(), *robot_targets()],
    "agents": agent_targets,
    "experiments": experiment_targets,
    "files": lambda: [*file_targets(), *symmetry_file_targets(), *agent_folder_targets()],
    "commands": command_targets,
}

_DESCRIPTION = """\
Calls equirl with one thing wrong: a value, a file, a command line. Each input follows from its number and the seed.
A finding is a hang, an error that is not in equirl's own words or names neither value nor argument, nonsense that is
taken for something, a traceback on the command line."""


class HangError(BaseException):
    """An input took longer than the limit."""


@dataclass
class Fuzzer:
    """Makes inputs by number.

    Attributes:
        seed: Seed of all inputs.
        families: Which families are tried.
        seconds: Time limit of one input; 0: none.
    """

    seed: int = 0
    families: tuple[str, ...] = FAMILIES
    seconds: int = 0
    _made: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    _folders: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list, repr=False)

    @cached_property
    def turns(self) -> tuple[str, ...]:
        """The families in the order of their turns."""
        return tuple(family for family in _SHARES if family in self.families)

    @cached_property
    def _tries(self) -> dict[str, list[Callable[[random.Random], Trial]]]:
        return {family: [self._tried(target) for target in self.made(family)] for family in self.families}

    def made(self, family: str) -> list[Any]:
        """Return the targets of a family."""
        found = self._made.get(family)
        if found is None:
            found = self._made[family] = _MAKERS[family]()
        return found

    def of(self, family: str) -> Fuzzer:
        """Return a fuzzer of one family that shares the targets and the folder of this one."""
        alone = Fuzzer(self.seed, (family,), self.seconds)
        alone._made, alone._folders = self._made, self._folders
        return alone

    def copied_folder(self, to: Path) -> Path:
        """Return a copy of the folder with what the command lines name."""
        return Path(shutil.copytree(self._folder(), to))

    def close(self) -> None:
        """Remove that folder."""
        while self._folders:
            self._folders.pop().cleanup()

    def input(self, number: int) -> Trial:
        """Try the input of a number, and judge it."""
        round_, turn = divmod(number, len(self.turns))
        family = self.turns[turn]
        nth = round_ * self.turns.count(family) + self.turns[:turn].count(family)
        tries = self._tries[family]
        np.random.seed(number % 2**32)
        torch.manual_seed(number)
        try:
            with _limit(self.seconds):
                return tries[nth % len(tries)](random.Random(f"{self.seed}:{number}"))
        except HangError:
            finding = Finding(family, f"target {nth % len(tries)}", "", "", f"no answer within {self.seconds} s")
            return Trial(family, finding.what, "", "hang", finding)

    def inputs(self, first: int, n: int) -> Iterator[tuple[int, Trial]]:
        """Try some inputs in a row."""
        for number in range(first, first + n):
            yield number, self.input(number)

    def _tried(self, target: Target | FileTarget | CommandTarget) -> Callable[[random.Random], Trial]:
        if isinstance(target, Target):
            return lambda numbers: try_call(target, numbers)
        if isinstance(target, FileTarget):
            return lambda numbers: try_file(target, numbers)
        return lambda numbers: try_line(target, self._folder(), numbers)

    def _folder(self) -> Path:
        if not self._folders:
            self._folders.append(tempfile.TemporaryDirectory(prefix="fuzz"))
            make_folder(Path(self._folders[0].name))
        return Path(self._folders[0].name)


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def too_long(number: int, frame: FrameType | None) -> None:
        raise HangError

    if not seconds:
        yield
        return
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the fuzzer, and return 1 if something was found."""
    options = _options(arguments)
    fuzzer = Fuzzer(options.seed, tuple(options.family), options.seconds)
    try:
        return _run(fuzzer, options)
    finally:
        fuzzer.close()


def _run(fuzzer: Fuzzer, options: argparse.Namespace) -> int:
    if options.only is not None:
        trial = fuzzer.input(options.only)
        print(f"{trial.target}, {trial.what}, {trial.label}: {trial.outcome}\n{trial.finding}")
        return int(trial.finding is not None)
    rows, started, told = [], time.monotonic(), time.monotonic()
    for number, trial in fuzzer.inputs(options.first, options.inputs):
        rows.append((number, trial))
        if trial.finding is not None:
            print(f"{number}: {_line(trial)}", flush=True)
        if time.monotonic() - told > 30:
            told = time.monotonic()
            print(f"... {len(rows)} of {options.inputs} inputs, {told - started:.0f} s", file=sys.stderr, flush=True)
    print(_summary(rows))
    if options.csv is not None:
        _write(options.csv, rows)
    return int(any(trial.finding is not None for _, trial in rows))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python tests/fuzz", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1000, metavar="N", help="number of inputs (1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of all inputs (0)")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER", help="number of the first input (0)")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="try this input alone, and show it")
    parser.add_argument("--family", nargs="+", choices=FAMILIES, default=list(FAMILIES), help="default: all")
    parser.add_argument("--seconds", type=int, default=120, help="time limit of one input (120; 0: none)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each input")
    return parser.parse_args(arguments)


def _line(trial: Trial) -> str:
    found = trial.finding
    if found is None:
        return trial.outcome
    return f"{found.target} | {found.what} | {found.label} | {found.given} | {found.complaint}"


def _summary(rows: Sequence[tuple[int, Trial]]) -> str:
    """Return a table: a line for each target with its inputs by outcome."""
    outcomes = ("refused", "accepted", "finding", "hang")
    found: dict[str, Counter[str]] = {}
    for _, trial in rows:
        found.setdefault(trial.target, Counter())[trial.outcome] += 1
    lines = [f"{'target':<44}" + "".join(f"{outcome:>10}" for outcome in outcomes)]
    for target, counts in sorted(found.items()):
        lines.append(f"{target[:43]:<44}" + "".join(f"{counts[outcome]:>10}" for outcome in outcomes))
    total: Counter[str] = Counter(trial.outcome for _, trial in rows)
    lines.append(f"{'all':<44}" + "".join(f"{total[outcome]:>10}" for outcome in outcomes))
    return "\n".join(lines)


def _write(path: Path, rows: Sequence[tuple[int, Trial]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("number", "target", "what", "label", "outcome", "given", "complaint"))
        for number, trial in rows:
            found = trial.finding
            told = ("", "") if found is None else (found.given, found.complaint)
            writer.writerow((number, trial.target, trial.what, trial.label, trial.outcome, *told))
