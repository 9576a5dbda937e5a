"""Studies that are killed by signal 9, their files looked at, and run again."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from equirl.command import main
from equirl.experiments.rl.report import COLUMNS
from equirl.experiments.tables import read_rows

SMALL = (
    *("study", "rl", "--agents", "plain", "grid-d4/canonical", "--seeds", "2", "--size", "3"),
    *("--total-timesteps", "2000", "--eval-freq", "500", "--threshold", "1"),
)
"""A study of four runs of a second or two."""

_SECONDS = ("train_seconds", "cpu_seconds")


_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload(["equirl.experiments.rl.command"])


def begin(out: Path, cluster: str | None = None, environment: Mapping[str, str] | None = None, n_jobs: int = 2) -> Any:
    """Begin the study in a process group of its own, writing into ``out``; return its ``multiprocessing.Process``."""
    there = ("--n-jobs", str(n_jobs)) if cluster is None else ("--cluster", cluster)
    study = _FORKED.Process(target=_study, args=(out, [*SMALL, "--out", str(out), *there], dict(environment or {})))
    study.start()
    return study


def kill(study: Any) -> None:
    """Kill a study and the processes that it started."""
    with contextlib.suppress(ProcessLookupError):  # it has just ended, or has not made its group yet
        os.killpg(study.pid, signal.SIGKILL)
    study.kill()
    study.join()


def finish(study: Any, out: Path) -> str:
    """Wait until a study has ended, and return what it said.

    Raises:
        RuntimeError: Its exit status is not 0.
    """
    study.join()
    said = _log(out).read_text(encoding="utf-8")
    if study.exitcode != 0:
        raise RuntimeError(f"exit status {study.exitcode}:\n{said[-3000:]}")
    return said


def _study(out: Path, arguments: list[str], environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    with _log(out).open("a", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    sys.exit(main(arguments))


def _log(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def open_everything(out: Path) -> int:
    """Open each file that a killed study left, and return how many runs are finished.

    Raises:
        ValueError: One is damaged.
    """
    finished = sorted(out.glob("runs/[!.]*.csv"))
    for path in finished:
        read_rows(path, COLUMNS)
    for path in out.glob("record.json"):
        json.loads(path.read_text(encoding="utf-8"))
    for path in out.glob("study.csv"):
        read_rows(path, COLUMNS)
    return len(finished)


def rows_but_for_seconds(out: Path) -> list[dict[str, str]]:
    """Return the rows of a study without the columns of times."""
    with (out / "study.csv").open(newline="", encoding="utf-8") as file:
        return [{name: value for name, value in row.items() if name not in _SECONDS} for row in csv.DictReader(file)]


@contextmanager
def dask_cluster() -> Iterator[Any]:
    """A Dask cluster of two worker processes on the loopback."""
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster


@contextmanager
def ray_cluster(cpus: int = 2) -> Iterator[Any]:
    """A Ray cluster of this machine alone; ``RAY_ADDRESS`` is its ``address``, which Ray wants to be no 127.0.0.1."""
    from ray.cluster_utils import Cluster

    small = {"num_cpus": cpus, "object_store_memory": 100_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=small)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def worker_processes(cluster: Any) -> list[int]:
    """Return the processes of a cluster that do runs."""
    if hasattr(cluster, "scheduler"):
        return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
    raylet = cluster.head_node.all_processes["raylet"][0].process.pid
    return [pid for pid in _children(raylet) if _command(pid).startswith("ray::")]


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has just ended
        return ""
