"""Where results are written: places checked before the work, and earlier results that are kept."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equirl.experiments.records import recorded_settings, write_record
from equirl.experiments.runs import read_rows, write_rows

__all__ = ["Table", "check_output_file", "check_output_folder", "keep_earlier", "other_settings", "write_tables"]

_RESULTS = (
    *("study.csv", "weights.csv", "reliability.csv", "errors.csv", "samples.csv", "audit.csv", "bench.csv"),
    *("record.json", "summary.md", "bench.md", "samples.jsonl", "report.html"),
    *("learning_curves.png", "performance_profile.png", "success.png", "returns.png", "accuracy.png", "weights.png"),
    *("reliability.png", "regard.png", "passes.png", "scaling.png"),
)
"""Files that studies write at the top of their folder. The runs in its folders have their settings in their names."""

Table = tuple[Sequence[str], Sequence[Path] | Sequence[Sequence[Any]]]
"""The columns of a CSV and its rows, or the files of the runs that hold the rows."""

_NO_MATTER = ("out", "csv", "cache", "n_jobs", "cluster", "report_only")
"""Settings that change no figure."""


def check_output_folder(folder: Path, option: str = "--out") -> None:
    """Check that a folder is there or can be made, and can be written to; nothing is made here.

    Args:
        folder: The folder.
        option: What names it on the command line, for the message.

    Raises:
        ValueError: A file is in its place, or it cannot be written to.
    """
    _check_place(Path(folder), f"{option} {folder}")


def check_output_file(file: Path | None, option: str) -> None:
    """Check that a file can be written; ``None``: none is wanted.

    Args:
        file: The file.
        option: What names it on the command line, for the message.

    Raises:
        ValueError: A folder has its name, or its own folder cannot be written to.
    """
    if file is None:
        return
    if Path(file).is_dir():
        raise ValueError(f"{option} {file} is a folder; name a file")
    _check_place(Path(file).parent, f"{option} {file}")


def keep_earlier(folder: Path) -> None:
    """Move a study's files into a folder ``earlier-1``, ``earlier-2``, ... of their folder, and say so.

    Args:
        folder: The study's folder.
    """
    files = [folder / name for name in _RESULTS if (folder / name).is_file()]
    if not files:
        return
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    kept = folder / f"earlier-{number}"
    kept.mkdir()
    for file in files:
        file.rename(kept / file.name)
    print(f"{folder} held results of other settings; they are kept in {kept}", flush=True)


def other_settings(folder: Path, config: Any) -> bool:
    """Return whether a folder's record tells of other settings than these, or cannot be read.

    Args:
        folder: A study's folder.
        config: The dataclass of the settings.
    """
    try:
        recorded = json.loads((folder / "record.json").read_text(encoding="utf-8"))["config"]
        before = {name: value for name, value in recorded.items() if name not in _NO_MATTER}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True
    return before != {name: value for name, value in recorded_settings(config).items() if name not in _NO_MATTER}


def write_tables(folder: Path, tables: Mapping[str, Table], config: Any) -> None:
    """Write the tables of a study and its record; what they would replace and do not contain is kept.

    Args:
        folder: The study's folder.
        tables: Name of each CSV to its columns and its rows, or the files of the runs that hold the rows.
        config: The dataclass that configured the study.
    """
    found = {name: (columns, _gathered(columns, rows)) for name, (columns, rows) in tables.items()}
    if any(_loses(folder / name, columns, rows) for name, (columns, rows) in found.items()):
        keep_earlier(folder)
    for name, (columns, rows) in found.items():
        write_rows(folder / name, columns, rows)
    write_record(folder / "record.json", config)


def _gathered(columns: Sequence[str], rows: Sequence[Path] | Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return rows, those of runs read from their files."""
    found: list[Sequence[Any]] = []
    for part in rows:
        found += read_rows(part, columns) if isinstance(part, Path) else [part]
    return found


def _loses(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    """Return whether a CSV has rows that are not among those which are to replace it."""
    if not path.exists():
        return False
    try:
        with path.open(newline="", encoding="utf-8") as file:
            before = {tuple(row) for row in csv.reader(file)}
    except (ValueError, csv.Error):
        return True
    return not before <= {tuple(map(_as_written, row)) for row in (columns, *rows)}


def _as_written(value: Any) -> str:
    """Return how the csv module writes a value."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)


def _check_place(folder: Path, what: str) -> None:
    try:
        nearest = next(place for place in (folder, *folder.parents) if place.exists())
        if not nearest.is_dir():
            raise ValueError(f"{what} cannot be written: {nearest} is a file, not a folder")
    except OSError as error:
        raise ValueError(f"{what} cannot be written: {error}") from error
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{what} cannot be written: there is no permission to write to {nearest}")
