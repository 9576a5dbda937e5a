"""Reading the CSV and the record of a study; a file that is damaged, or another study's, is named."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

__all__ = ["read_settings", "read_study"]


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
        columns: Columns that it must have; others may be there as well.
        command: The command that writes such a file, for the messages.
        numbers: Columns that must hold numbers.
        may_be_empty: Whether a table without rows is one.
        **settings: Of ``pandas.read_csv``.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no CSV, has other columns, or has no rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `{command}` writes it, into the folder that --out names")
    try:
        table = pd.read_csv(path, **settings)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(f"{path} is no CSV that can be read: {' '.join(str(error).split())}") from error
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)}, so it is not what `{command}` writes; it has "
            f"{', '.join(map(str, table.columns[:8]))}"
        )
    if not len(table) and not may_be_empty:
        raise ValueError(f"{path} has no rows; run `{command}` again")
    for column in numbers:
        wrong = table[column][pd.to_numeric(table[column], errors="coerce").isna() & table[column].notna()]
        if len(wrong):
            raise ValueError(f"{path}: {wrong.iloc[0]!r} in the column {column} is no number")
    return table


def read_settings(path: Path, names: Sequence[str], command: str) -> Mapping[str, Any]:
    """Return the settings that a study's ``record.json`` tells of.

    Args:
        path: The file.
        names: Settings that must be in it.
        command: The command that writes such a file, for the messages.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It is no record, or one of another study.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; `{command}` writes it, into the folder that --out names")
    try:
        settings: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8"))["config"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no record of a study ({type(error).__name__} on reading it)") from error
    for name in names:
        if name not in settings:
            raise ValueError(f"{path} has no setting {name!r}, so it is not what `{command}` writes")
        if not isinstance(settings[name], int) or settings[name] < 1:
            raise ValueError(f"{path}: the setting {name} is {settings[name]!r}, and no number above 0")
    return settings
