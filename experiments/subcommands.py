"""Commands of a command, such as ``equirl nlg audit``: looked up by name, their mistakes one line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tyro

from equirl.agents.files import written_whole
from equirl.names import unknown_name_message

__all__ = ["Commands", "run_subcommand", "table_as_it_comes", "write_csv"]

Commands = Mapping[str, tuple[type[Any], Callable[[Any], int]]]
"""Name to the dataclass of the options and what is done with it."""


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
    config = tyro.cli(options, args=list(arguments[1:]), prog=f"{program} {name}")
    try:
        return run(config)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"{program}: {error}", file=sys.stderr)
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
        with written_whole(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"Written to {path}")
