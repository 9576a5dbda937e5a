"""Pages of the documentation as tests run them: Python and shell blocks in order, in one folder and one namespace."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import done, here
from stable_baselines3 import PPO

from equirl.agents import LambdaFit
from equirl.envs import check_symmetry

MOST_STEPS = 150
"""Most environment steps of trainings in Python blocks."""

SHORT_PYTHON = {
    "n_eval_episodes=50": "n_eval_episodes=2",
    "n_states=1_000": "n_states=100",
    "range(3)": "range(1)",
    '"smollm2"': '"tiny-model"',
}
"""What Python blocks say, and what tests run instead, such as a language model without training."""

SHORT_OPTIONS = {
    "train": ["-n", "60", "--eval-freq", "-1", "--summary-episodes", "0", "--verbose", "0", "--n-trials", "1"],
    "enjoy": ["-n", "20", "--no-render"],
    "record": ["-n", "5"],
    "check": ["--transitions", "60", "--resets", "60"],
    "discover": ["--steps", "8000"],
    "audit": ["--episodes", "2", "--states", "60", "--n-envs", "2"],
    "symmetrize": ["--states", "60", "--fit-steps", "5"],
}
"""Options that tests add to a command, which override those before them."""

ONLY_UNDERSTOOD = {"study", "bench", "scan", "nlg", "vision"}
"""Commands that take minutes: tests look up each of their options in --help. Their own tests run them at toy size."""

NOT_RUN = {
    "make": "installs packages; continuous integration runs make test",
    "pip": "installs packages",
    "peers/bin/pip": "installs packages",
    "source": "enters a virtual environment",
    "python3": "makes a virtual environment",
    "python": "rl_zoo3's own command; the tests of the command line run it",
    "tensorboard": "starts a server",
    "pre-commit": "is not among the development tools",
}
"""First words of shell lines that tests do not run, and why."""


class Block(NamedTuple):
    """A block of code of a page.

    Attributes:
        language: ``"python"`` or ``"bash"``.
        text: The code.
        file: The file that a reader is to copy it into; empty if it is run as it stands there.
    """

    language: str
    text: str
    file: str = ""


def shorten(monkeypatch: pytest.MonkeyPatch, steps: int = 20) -> None:
    """Let λ be fitted by few gradient steps, rollouts and checks be short, where nobody says how long they are."""
    defaults = [steps if field.name == "steps" else field.default for field in dataclasses.fields(LambdaFit)]
    monkeypatch.setattr(LambdaFit.__init__, "__defaults__", tuple(defaults))
    assert LambdaFit().steps == steps
    counts = {"n_transitions": 100, "n_resets": 100}
    monkeypatch.setattr(check_symmetry, "__kwdefaults__", {**check_symmetry.__kwdefaults__, **counts})
    rollout = [64 if value == 2048 else value for value in PPO.__init__.__defaults__ or ()]
    monkeypatch.setattr(PPO.__init__, "__defaults__", tuple(rollout))
    assert rollout.count(64) == 2  # n_steps and batch_size


def pages(checkout: Path) -> list[Path]:
    """Return README, CONTRIBUTING and all pages of the documentation."""
    return [checkout / "README.md", checkout / "CONTRIBUTING.md", *sorted((checkout / "docs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """Return the Python and shell blocks of a page, in order."""
    fence = re.compile(r'^```(\w*)(?: title="(.+?)")?\n(.*?)^```$', flags=re.DOTALL | re.MULTILINE)
    fences = fence.findall(page.read_text(encoding="utf-8"))
    return [Block(language, text, file) for language, file, text in fences if language in ("python", "bash")]


def languages(page: Path) -> set[str]:
    """Return what the blocks of a page are marked as."""
    opening = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    opening = [re.sub(r' title=".+?"$', "", mark) for mark in opening]
    return {mark for number, mark in enumerate(opening) if number % 2 == 0}


def shell_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell block, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def run_page(page: Path) -> dict[str, Any]:
    """Run the blocks of a page in the current folder and return the namespace of its Python."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page)):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(_shortened(block.text), f"{page.name}, block {number}", "exec"), namespace)
        else:
            for words in shell_lines(block.text):
                run_command(words)
    return namespace


def _shortened(text: str) -> str:
    for long, short in SHORT_PYTHON.items():
        text = text.replace(long, short)
    return re.sub(r"(?<=\.learn\()[\d_]+", lambda steps: str(min(int(steps[0]), MOST_STEPS)), text)


def run_command(words: list[str]) -> None:
    """Run an ``equirl`` command in this process, shortened, or look up its options; leave out what cannot run."""
    program, *rest = words
    if program.removeprefix(".venv/bin/") != "equirl":
        assert program in NOT_RUN, f"say why tests do not run {program!r}, or let them"
    elif rest[0] in ONLY_UNDERSTOOD or "--resume" in rest:  # there is no run to go on with
        look_up(rest)
    else:
        done(*rest, *(SHORT_OPTIONS.get(rest[0], []) if "--help" not in rest else []))


def look_up(words: list[str]) -> None:
    """Check that a command has the options it is given."""
    name, *rest = words
    names = [name, *([rest[0]] if rest and not rest[0].startswith("-") else [])]
    if names == ["study"] and "--env" in rest:
        names.append("own")  # what `equirl study --env` stands for
    shown = here(*names, "--help")
    assert shown.status == 0, (words, shown.err)
    known = set(re.findall(r"--[a-z][a-z-]*", shown.out))
    asked = {word.split("=")[0] for word in rest if word.startswith("--")}
    assert asked <= known, f"{' '.join(names)} does not know {sorted(asked - known)}"
