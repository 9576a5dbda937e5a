"""Commands of a command, such as ``equirl nlg audit``: looked up by name, their mistakes one line on stderr."""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import tyro

from equirl.files import written_whole
from equirl.names import unknown_name_message

__all__ = ["Commands", "run_command", "run_subcommand", "table_as_it_comes", "write_csv"]

Config = TypeVar("Config")

Commands = Mapping[str, tuple[type[Any], Callable[[Any], int]]]
"""Name to the dataclass of the options and what is done with it."""

_WIDE = "100000"
"""Columns of a terminal on which no message is broken into lines."""

_BOX = " │╭╮╰╯─-"

_MISTAKES = (ValueError, OSError, ImportError, MemoryError)


def run_subcommand(program: str, usage: str, commands: Commands, arguments: Sequence[str]) -> int:
    """Run the command that the first argument names and return its exit status: 2 for a mistake of the user's.

    Args:
        program: What comes before the command's name.
        usage: Printed where no command is named, or help is asked for.
        commands: The commands.
        arguments: The command's name and its options.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in commands:
        print(f"{program}: {unknown_name_message('command', name, commands)}", file=sys.stderr)
        return 2
    options, run = commands[name]
    return run_command(f"{program} {name}", options, run, arguments[1:])


def run_command(
    program: str,
    options: type[Config],
    run: Callable[[Config], int],
    arguments: Sequence[str],
    description: str | None = None,
) -> int:
    """Run a command and return its exit status: 2 for a mistake of the user's, which is one line on stderr.

    With ``EQUIRL_TRACEBACK`` in the environment a mistake raises its error.

    Args:
        program: What the user typed before the options.
        options: The dataclass of the options; it checks its values itself.
        run: Does what the options say and returns the exit status.
        arguments: The options as typed.
        description: What the help begins with; by default the docstring of ``options``.
    """
    try:
        return run(_parsed(program, options, arguments, description))
    except BrokenPipeError:  # what reads our output has read enough
        raise
    except _MISTAKES as error:
        if os.environ.get("EQUIRL_TRACEBACK"):
            raise
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        return 2


def table_as_it_comes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return a table of rows, each printed as soon as it is there."""
    found = []
    for row in rows:
        found.append(row)
        print(", ".join(f"{name} {value}" for name, value in zip(columns, row, strict=True)), flush=True)
    return pd.DataFrame(found, columns=list(columns))


def write_csv(table: pd.DataFrame, path: Path | None) -> None:
    """Write a table, if a file was named, and say so."""
    if path is not None:
        replaced = ", in place of the file that was there" if path.exists() else ""
        with written_whole(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"Written to {path}{replaced}")


def _parsed(program: str, options: type[Config], arguments: Sequence[str], description: str | None) -> Config:
    """Return the options of a command line.

    Raises:
        ValueError: An unknown option, or a value that its option does not take.
    """
    listed = list(arguments)
    if {"-h", "--help"} & set(listed):
        return tyro.cli(options, args=listed, prog=program, description=description)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _columns(_WIDE):
            return tyro.cli(options, args=listed, prog=program, description=description)
    except SystemExit as error:
        if isinstance(error.__context__, ValueError):  # what the dataclass found wrong with its values
            raise error.__context__ from None
        raise ValueError(f"{_first_message(said.getvalue())}; {program} --help lists the options") from None


def _first_message(text: str) -> str:
    """Return what tyro says is wrong, and the option that it thinks was meant, without the box around it."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # without colours
    lines = [line.strip(" │") for line in plain.splitlines() if not set(line) <= set(_BOX)]
    message = lines[1] if len(lines) > 1 else "the options cannot be read"
    if message.endswith(":") and len(lines) > 2:  # the options that are missing are below
        message = f"missing: {lines[2].split()[0]}"
    if "Perhaps you meant:" in lines:
        nearest = re.match(r"[^\s,]+", lines[lines.index("Perhaps you meant:") + 1])
        message += "" if nearest is None else f". Did you mean {nearest.group()!r}?"
    return message[:1].lower() + message[1:].removesuffix(".")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this ({text or 'out of memory'}); make it smaller"
    return text or type(error).__name__


@contextlib.contextmanager
def _columns(number: str) -> Iterator[None]:
    """Tell programs that the terminal has so many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = number
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
