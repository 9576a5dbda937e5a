"""Many runs of a study: several at a time, each in a CSV file of its own, so that a stopped study can go on."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config

from equirl.experiments.tables import Rows, write_rows

__all__ = ["Rows", "check_cluster", "run_file", "run_missing"]

Job = TypeVar("Job")


def run_file(folder: Path, name: str, decisive: Any) -> Path:
    """Return the file of one run.

    The file name contains a hash of all settings that affect the rows, so a changed setting never reuses an old file.

    Args:
        folder: The study's folder.
        name: Name of the run.
        decisive: The settings, as JSON can hold them.
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
    threads: int | None = None,
) -> None:
    """Do the runs whose files do not exist yet, several at a time, each in a process of its own.

    Args:
        jobs: All runs of the study.
        run: Does one run and returns its rows.
        file_of: Returns the file of a run's rows.
        columns: Names of the columns.
        n_jobs: Runs at a time; one is done in this process.
        cluster: Address of a Dask scheduler (``tcp://...``) or of a Ray cluster (``ray://...``) whose workers do the
            runs; equirl has to be installed there. Files are written here. ``None``: processes on this machine.
        threads: Torch threads of a run; ``None``: as many as torch likes.

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
        for index, rows in parallel(delayed(_numbered)(run, index, job, threads) for index, job in enumerate(missing)):
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


def _numbered(run: Callable[[Job], Rows], index: int, job: Job, threads: int | None) -> tuple[int, Rows]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return index, run(job)
    finally:
        torch.set_num_threads(before)
