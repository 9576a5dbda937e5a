"""Many runs of a study: some at a time, each kept in a file of its own, so that a stopped study goes on."""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config

from equirl.files import written_whole

__all__ = ["Rows", "check_cluster", "gather_runs", "read_rows", "run_file", "run_missing", "write_rows"]

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
    jobs: Sequence[Job],
    run: Callable[[Job], Rows],
    file_of: Callable[[Job], Path],
    columns: Sequence[str],
    n_jobs: int,
    cluster: str | None = None,
) -> None:
    """Do the runs whose files are not there, some at a time, each in a process of its own.

    Args:
        jobs: All runs of the study.
        run: Does one and returns its rows.
        file_of: Where a run's rows are kept.
        columns: Names of the columns.
        n_jobs: Runs at a time.
        cluster: Address of a Dask scheduler (``tcp://...``) or of a Ray cluster (``ray://...``) whose workers do the
            runs; equirl has to be installed there. Files are written here. ``None``: processes on this machine.

    Raises:
        ValueError: An address of another kind, or what the cluster needs is not installed.
    """
    missing = [job for job in jobs if not file_of(job).exists()]
    check_cluster(cluster)
    for folder in {file_of(job).parent for job in missing}:
        folder.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is an error now, not after the runs
    where = f"{n_jobs} at a time" if cluster is None else f"on {cluster}"
    print(f"{len(jobs)} runs, {len(missing)} to do, {where}", flush=True)
    with _backend(cluster):
        parallel = Parallel(n_jobs=n_jobs if cluster is None else -1, return_as="generator_unordered")
        # Written as they come, so that a study that is stopped keeps what is done.
        for index, rows in parallel(delayed(_numbered)(run, index, job) for index, job in enumerate(missing)):
            write_rows(file_of(missing[index]), columns, rows)


@contextmanager
def _backend(cluster: str | None) -> Iterator[None]:
    if cluster is None:
        yield
    elif cluster.startswith("ray://"):
        ray, joblib_ray = _needed("ray", "ray"), _needed("ray.util.joblib", "ray")
        ray.init(address=cluster)
        joblib_ray.register_ray()
        with parallel_config(backend="ray"):
            yield
    else:
        with _dask_client(cluster), parallel_config(backend="dask"):
            yield


def _dask_client(cluster: str) -> Any:
    try:
        return _needed("distributed", "equirl[bench]").Client(cluster)
    except OSError as error:
        raise ValueError(f"no Dask scheduler answers at {cluster} ({error})") from error


def check_cluster(cluster: str | None) -> None:
    """Check the address of a cluster, and that what it needs is installed; ``None``: this machine.

    Raises:
        ValueError: An address of another kind, or a package that is not installed.
    """
    if cluster is None:
        return
    if not re.fullmatch(r"[a-z]+://.+", cluster):
        raise ValueError(
            f"a cluster is named by its address, tcp://HOST:PORT (Dask) or ray://HOST:PORT, not {cluster!r}"
        )
    if cluster.startswith("ray://"):
        _needed("ray", "ray")
    else:
        _needed("distributed", "equirl[bench]")


def _needed(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"this cluster needs {module}, which is not installed: pip install {package!r}") from error


def gather_runs(files: Sequence[Path], columns: Sequence[str], target: Path) -> None:
    """Write the rows of many runs into one CSV, in the order given."""
    write_rows(target, columns, [row for path in files for row in read_rows(path, columns)])


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


def _numbered(run: Callable[[Job], Rows], index: int, job: Job) -> tuple[int, Rows]:
    return index, run(job)
