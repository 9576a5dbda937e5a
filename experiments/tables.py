"""Tables: the CSV files of runs and studies, and tables in Markdown."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from equirl.files import written_whole

__all__ = ["Rows", "markdown_table", "read_rows", "read_study", "table_as_it_comes", "write_csv", "write_rows"]

Rows = Sequence[Sequence[Any]]
"""Rows of a table; the columns are named elsewhere."""


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown.

    Args:
        columns: Heads of the columns.
        rows: Cells of each row, written as ``str`` writes them.
    """
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines)


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Return the rows of a run's CSV, as text.

    Args:
        path: The file.
        columns: Names of the columns that it must have.

    Raises:
        ValueError: It is not such a file; the message says what to do about it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            head, *rows = list(csv.reader(file)) or [[]]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV of a run ({error}); delete it to do this run again") from error
    if head != list(columns) or any(len(row) != len(columns) for row in rows):
        raise ValueError(
            f"{path} is no CSV of a run with the columns {', '.join(columns)}; delete it to do this run again"
        )
    return rows


def write_rows(target: Path, columns: Sequence[str], rows: Rows) -> None:
    """Write a CSV whole or not at all."""
    with written_whole(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        usual = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for row in (list(columns), *rows):
            # The csv module leaves a lone carriage return unquoted, and reads it as the end of a row.
            (quoted if any(isinstance(value, str) and "\r" in value for value in row) else usual).writerow(row)


def read_study(
    path: Path,
    columns: Sequence[str],
    command: str,
    *,
    numbers: Sequence[str] = (),
    may_be_empty: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Return the CSV of a study.

    Args:
        path: The file.
        columns: Columns that it must have; it may have others as well.
        command: The command that writes such a file, for the messages.
        numbers: Columns that must hold numbers.
        may_be_empty: Whether a table without rows is accepted.
        **settings: Arguments of ``pandas.read_csv``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no CSV, has other columns, or has no rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `{command}` writes it, into the folder that --out names")
    try:
        table = pd.read_csv(path, **settings)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path} is no CSV that can be read: {' '.join(str(error).split())}") from error
    if missing := [column for column in columns if column not in table.columns]:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}, so it is not what `{command}` writes; it has "
            f"{', '.join(map(str, table.columns[:8]))}"
        )
    if not len(table) and not may_be_empty:
        raise ValueError(f"{path} has no rows; run `{command}` again")
    for column in numbers:
        wrong = table[column][pd.to_numeric(table[column], errors="coerce").isna()]
        wrong = wrong if column in ("seed", "timesteps") else wrong.dropna()  # other values may be unknown
        if len(wrong):
            raise ValueError(f"{path}: '{wrong.iloc[0]}' in the column {column} is no number")
    return table


def table_as_it_comes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> pd.DataFrame:
    """Return a table of rows, and print each row as soon as it is measured."""
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
