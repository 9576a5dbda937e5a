"""Studies that are killed by signal 9, their files looked at, and run again."""

from __future__ import annotations

import contextlib
import csv
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
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
def ray_cluster(cpus: int = 2, machines: int = 1) -> Iterator[Any]:
    """A Ray cluster on the loopback; ``RAY_ADDRESS`` is its ``address``, which Ray wants to be no 127.0.0.1.

    Args:
        cpus: Number of CPUs of each machine.
        machines: How many there seem to be. With more than one the head, to which the study is attached, does no runs.
    """
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 100_000_000, "include_dashboard": False}
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 0 if machines > 1 else cpus, "_system_config": quick, **small}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(machines - 1):
            cluster.add_node(num_cpus=cpus, object_store_memory=100_000_000)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def ray_client_server() -> Iterator[str]:
    """A Ray cluster of this machine that is reached from outside; its ``ray://HOST:PORT``."""
    with ExitStack() as ports:
        free = [ports.enter_context(contextlib.closing(socket.socket())) for _ in range(2)]
        for each in free:
            each.bind(("127.0.0.1", 0))
        head, client = (each.getsockname()[1] for each in free)
    ray = Path(sys.executable).with_name("ray")
    small = ["--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false", "--block"]
    command = [str(ray), "start", "--head", f"--port={head}", f"--ray-client-server-port={client}", *small]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(client, server)
            yield f"ray://127.0.0.1:{client}"
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server takes calls.

    Raises:
        RuntimeError: It ended instead.
    """
    while server.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
    raise RuntimeError(f"ray start ended with {server.returncode}")


def worker_processes(cluster: Any) -> list[int]:
    """Return the processes of a cluster that do runs."""
    if hasattr(cluster, "scheduler"):
        return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]
    raylets = [_raylet(node) for node in (cluster.head_node, *cluster.worker_nodes)]
    commands = {pid: _command(pid) for raylet in raylets for pid in _children(raylet)}
    # A raylet ends with its agents, and with it the whole machine.
    return [pid for pid, command in commands.items() if command.startswith("ray::") and "Agent" not in command]


def machines(cluster: Any) -> list[int]:
    """Return the raylets of the machines of a Ray cluster that do runs, where the study is attached to another one."""
    return [_raylet(node) for node in cluster.worker_nodes]


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _children(parent: int) -> list[int]:
    tasks = Path(f"/proc/{parent}/task")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has just ended
        return ""
