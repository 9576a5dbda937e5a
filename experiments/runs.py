"""Many runs of a study: several at a time, each in a CSV file of its own, so that a stopped study can go on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed, parallel_config

from equirl.experiments.tables import Rows, write_rows
from equirl.optional import needed

__all__ = ["Rows", "check_cluster", "run_file", "run_missing"]

Job = TypeVar("Job")

_DASK, _RAY = "'equirl[bench]'", "'equirl[ray]'"
_DEATHS = ("TerminatedWorkerError", "BrokenProcessPool", "KilledWorker", "WorkerCrashedError")  # of a worker
_LOSSES = ("LocalRayletDiedError", "NodeDiedError", "ObjectLostError", "OwnerDiedError", "ConnectionError")  # clusters


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
        cluster: Address of a Dask scheduler (``tcp://...``) or of a Ray cluster (``ray://...``; on one of its machines
            ``ray://auto``) whose workers do the runs; equirl has to be installed there. Files are written here. A run
            whose worker dies is done again, three times at most. ``None``: processes on this machine.
        threads: Torch threads of a run; ``None``: as many as torch likes.

    Raises:
        ValueError: An address of another kind, a cluster that does not answer, or a worker that died (too often).
        ModuleNotFoundError: What the cluster needs is not installed.
    """
    undone = [job for job in jobs if not file_of(job).exists()]
    check_cluster(cluster)
    for folder in {file_of(job).parent for job in undone}:
        folder.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made is an error now, not after the runs
    print(f"{len(jobs)} runs, {len(undone)} to do, {f'on {cluster}' if cluster else f'{n_jobs} at a time'}", flush=True)
    calls = [(run, index, job, threads) for index, job in enumerate(undone)]
    try:  # rows are written as they come, so that a study that is stopped keeps what is done
        for index, rows in (_on_ray if (cluster or "").startswith("ray://") else _by_joblib)(calls, n_jobs, cluster):
            write_rows(file_of(undone[index]), columns, rows)
    except Exception as error:
        if type(error).__name__ not in _DEATHS + _LOSSES:
            raise
        kept = "finished runs are kept, and the same command does the others"
        raise ValueError(
            f"a worker or its cluster died ({type(error).__name__}), perhaps out of memory; {kept}"
        ) from error


def _by_joblib(calls: Sequence[Any], n_jobs: int, cluster: str | None) -> Iterator[Any]:
    with ExitStack() as stack:
        if cluster is not None and calls:
            stack.enter_context(needed("distributed", _DASK).Client(cluster))
            stack.enter_context(parallel_config(backend="dask", n_jobs=-1, wait_for_workers_timeout=60))
        parallel = Parallel(n_jobs=n_jobs if cluster is None else None, return_as="generator_unordered")
        yield from parallel(delayed(_numbered)(*call) for call in calls)


def _on_ray(calls: Sequence[Any], n_jobs: int, cluster: Any) -> Iterator[Any]:
    """Do the runs as tasks of Ray: its backend for joblib hands results out when all are there."""
    ray = needed("ray", _RAY)
    try:
        ray.init(address=cluster.replace("ray://auto", "auto"), log_to_driver=False)
    except ConnectionError as error:
        raise ValueError(
            f"no Ray cluster answers at {cluster} ({error}). From Ray 2.60 on it may ask for a token: copy the file "
            "~/.ray/auth_token of its head to this machine, and set RAY_AUTH_MODE=token"
        ) from error
    try:
        waiting = [ray.remote(num_cpus=1, max_retries=3)(_numbered).remote(*call) for call in calls]
        while waiting:
            (done,), waiting = ray.wait(waiting)
            yield ray.get(done)
    except ray.exceptions.RayTaskError as error:  # an error of the run's own
        raise error.cause from None
    finally:
        ray.shutdown()


def check_cluster(cluster: str | None) -> None:
    """Check the address of a cluster, and that what it needs is installed; ``None``: this machine.

    Raises:
        ValueError: An address of another kind.
        ModuleNotFoundError: A package that is not installed.
    """
    if cluster is None:
        return
    if not re.fullmatch(r"[a-z]+://.+", cluster):
        raise ValueError(
            f"a cluster is named by its address, tcp://HOST:PORT (Dask) or ray://HOST:PORT; got {cluster!r}"
        )
    needed(*("ray", _RAY) if cluster.startswith("ray://") else ("distributed", _DASK))


def _numbered(run: Callable[[Job], Rows], index: int, job: Job, threads: int | None) -> tuple[int, Rows]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return index, run(job)
    finally:
        torch.set_num_threads(before)
