"""Many runs of a study: some at a time, each kept in a file of its own, so that a stopped study goes on."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed

from equirl.agents.files import written_whole

__all__ = ["Rows", "gather_runs", "run_file", "run_missing", "write_rows"]

Job = TypeVar("Job")
Rows = Sequence[Sequence[Any]]


def run_file(folder: Path, name: str, decisive: Any) -> Path:
    """Return the file of one run: everything that changes it is in the name, so no old run answers for a new setting.

    Args:
        folder: The study's folder.
        name: What the run is called.
        decisive: Settings, as JSON can hold them.
    """
    key = hashlib.sha256(json.dumps([name, decisive], sort_keys=True, default=str).encode()).hexdigest()[:10]
    return folder / "runs" / f"{name.replace('/', '_')}-{key}.csv"


def run_missing(
    jobs: Sequence[Job], run: Callable[[Job], Rows], file_of: Callable[[Job], Path], columns: Sequence[str], n_jobs: int
) -> None:
    """Do the runs whose files are not there, some at a time, each in a process of its own.

    Args:
        jobs: All runs of the study.
        run: Does one and returns its rows.
        file_of: Where a run's rows are kept.
        columns: Names of the columns.
        n_jobs: Runs at a time.
    """
    missing = [job for job in jobs if not file_of(job).exists()]
    print(f"{len(jobs)} runs, {len(missing)} to do, {n_jobs} at a time", flush=True)
    Parallel(n_jobs=n_jobs)(delayed(_run_and_keep)(run, job, file_of(job), columns) for job in missing)


def gather_runs(files: Sequence[Path], columns: Sequence[str], target: Path) -> None:
    """Write the rows of many runs into one CSV, in the order given."""
    rows: list[list[str]] = []
    for path in files:
        with path.open(newline="") as file:
            rows += list(csv.reader(file))[1:]
    write_rows(target, columns, rows)


def write_rows(target: Path, columns: Sequence[str], rows: Rows) -> None:
    """Write a CSV whole or not at all."""
    with written_whole(target) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([list(columns), *rows])


def _run_and_keep(run: Callable[[Job], Rows], job: Job, target: Path, columns: Sequence[str]) -> None:
    write_rows(target, columns, run(job))
