"""The record beside every result, and earlier results, which are kept."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equirl.experiments.tables import read_rows, write_rows
from equirl.files import write_text

__all__ = [
    *("Table", "commit", "keep_earlier", "machine"),
    *("read_settings", "recorded_settings", "write_record", "write_tables"),
]

_PACKAGES = ("equirl", "torch", "stable-baselines3", "gymnasium", "numpy")

_RESULTS = (
    *("study.csv", "weights.csv", "reliability.csv", "errors.csv", "samples.csv", "audit.csv", "bench.csv"),
    *("record.json", "summary.md", "bench.md", "samples.jsonl", "report.html"),
    *("learning_curves.png", "performance_profile.png", "success.png", "returns.png", "accuracy.png", "weights.png"),
    *("reliability.png", "regard.png", "passes.png", "scaling.png"),
)
"""Files that studies write at the top of their folder. The runs in its folders have their settings in their names."""

Table = tuple[Sequence[str], Sequence[Path] | Sequence[Sequence[Any]]]
"""The columns of a CSV and its rows, or the files of the runs that hold the rows."""


def write_record(path: Path, config: Any) -> None:
    """Write a JSON file that says how a result came about.

    Args:
        path: The file.
        config: The dataclass that configured the run.
    """
    record = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "config": recorded_settings(config),
        "versions": {package: version(package) for package in _PACKAGES} | {"python": platform.python_version()},
        "machine": machine(),
    }
    write_text(path, json.dumps(record, indent=2, default=str))


def recorded_settings(config: Any) -> dict[str, Any]:
    """Return the settings of a run as its record holds them."""
    settings = {name: _portable(value) for name, value in dataclasses.asdict(config).items()}
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def machine() -> dict[str, Any]:
    """Return the processor, its number of cores, and the GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": _processor(), "cores": os.cpu_count(), "gpu": gpu}


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


def _portable(value: Any) -> Any:
    """Return a setting as other machines may read it: only the last part of an absolute path."""
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else value


def commit() -> str | None:
    """Return the commit of the checkout this file lies in, or ``None`` outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
