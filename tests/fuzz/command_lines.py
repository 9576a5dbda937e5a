"""Command lines with one thing wrong: how they are made, run in this process, and judged."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from equirl.agents.cli import main
from fuzz.oracle import Finding
from fuzz.target import Trial

__all__ = ["CommandTarget", "Option", "inside", "run_line", "try_line"]


@dataclass(frozen=True)
class Option:
    """An option of a command, and how its value is malformed.

    Attributes:
        wrong: Values that mean nothing.
        perhaps: Values that may mean something; then the command may do its work.
        words: What else a message may call the option.
    """

    wrong: tuple[str, ...]
    perhaps: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class CommandTarget:
    """A command line that works, and how it is spoilt.

    Attributes:
        name: What it is called in reports.
        line: The words after ``equirl``, with budgets so small that it takes a second.
        options: Option (or the position of a word without one) to how its value is malformed.
        required: Options that cannot be left out.
        misspell: Whether options are misspelt; not where all others are handed on.
        words: What a message about the whole line may say.
    """

    name: str
    line: tuple[str, ...]
    options: Mapping[str | int, Option]
    required: tuple[str, ...] = ()
    misspell: tuple[str, ...] = ()
    words: tuple[str, ...] = field(default=())


def try_line(target: CommandTarget, folder: Path, random: Random) -> Trial:
    """Spoil a command line, run it in a copy of a folder, and judge what comes of it."""
    what, label, line, nothing, words = _spoilt(target, random)
    with tempfile.TemporaryDirectory(prefix="fuzz") as name:
        work = Path(name) / "work"
        shutil.copytree(folder, work)
        status, output, errors, raised = run_line(line, work)
    complaint = _complaint(status, output, errors, raised, nothing, words)
    outcome = "refused" if status == 2 else "accepted"
    if complaint is None:
        return Trial(target.name, what, label, outcome)
    shown = " ".join(word if word.strip() and " " not in word else repr(word) for word in ("equirl", *line))[:240]
    return Trial(target.name, what, label, "finding", Finding(target.name, what, label, shown, complaint))


def _spoilt(target: CommandTarget, random: Random) -> tuple[str, str, tuple[str, ...], bool, tuple[str, ...]]:
    """Return what is malformed and how, the line, whether it means nothing, and words that a message may use."""
    way = random.random()
    if target.misspell and way < 0.15:
        option = random.choice(target.misspell)
        at = random.randrange(3, len(option) - 1)  # not the last letter: argparse takes beginnings of options
        miss = random.choice([option[:at] + option[at + 1 :], f"{option}s", option[:at] + "q" + option[at:]])
        return miss, "a misspelt option", (*target.line, miss, "3"), True, (miss, *target.words)
    if target.required and way < 0.25:
        option = random.choice(target.required)
        at = target.line.index(option)
        return option, "left out", (*target.line[:at], *target.line[at + 2 :]), True, (option, option.strip("-"))
    if target.misspell and way < 0.3:
        stray = random.choice(["--nonsense", "--", "-Z", "stray"])
        added = ["--", "stray"] if stray == "--" else [stray]
        return stray, "nobody's word", (*target.line, *added), True, (stray, "stray", *target.words)
    where = random.choice(list(target.options))
    spec = target.options[where]
    nothing = not spec.perhaps or random.random() < 0.8
    value = random.choice(spec.wrong if nothing else spec.perhaps)
    named = (str(where), str(where).strip("-"), str(where).strip("-").replace("-", "_"), *spec.words)
    words = (*named, *([value] if value.strip() else ["''", "empty"]), *target.words)
    return str(where), "a value", _with_value(target.line, where, value), nothing, words


def _with_value(line: tuple[str, ...], option: str | int, value: str) -> tuple[str, ...]:
    if isinstance(option, int):
        return (*line[:option], value, *line[option + 1 :])
    if option not in line:
        return (*line, option, value)
    at = line.index(option)
    return (*line[: at + 1], value, *line[at + 2 :])


def run_line(line: tuple[str, ...], folder: Path) -> tuple[int | None, str, str, BaseException | None]:
    """Run a command line in a folder, and return its status, its two outputs, and what escaped from it."""
    output, errors = io.StringIO(), io.StringIO()
    status: int | None = None
    raised: BaseException | None = None
    with inside(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = main(list(line))
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except Exception as error:  # whatever escapes is a finding
            raised = error
    return status, output.getvalue(), errors.getvalue(), raised


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    before, arguments, environment = Path.cwd(), list(sys.argv), dict(os.environ)
    os.chdir(folder)
    os.environ["COLUMNS"] = "200"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        os.chdir(before)
        sys.argv = arguments
        os.environ.clear()
        os.environ.update(environment)


def _complaint(
    status: int | None,
    output: str,
    errors: str,
    raised: BaseException | None,
    nothing: bool,
    words: tuple[str, ...],
) -> str | None:
    lines = [line for line in errors.splitlines() if line.strip()]
    last = lines[-1][:250] if lines else ""
    if raised is not None:
        return f"{type(raised).__name__} escaped: {' '.join(str(raised).split())[:250]}"
    if "Traceback (most recent call last)" in output + errors:
        return f"a traceback: {last}"
    if status != 2:
        return f"status {status}, though the line means nothing; last line: {last}" if nothing else None
    if len(lines) != 1:
        return f"{len(lines)} lines on stderr instead of one: {' / '.join(lines)[:250]}"
    text = last.lower()
    forms = {form for word in words for form in (word.lower(), repr(word).lower(), " ".join(word.lower().split()))}
    if not any(form in " ".join(lines[0].lower().split()) for form in forms if form.strip()):
        return f"the line names neither the option nor the value: {text}"
    return None
