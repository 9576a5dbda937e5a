"""Kill a study, or a worker of its cluster, by signal 9 at random moments; look at what it left, and go on.

Each time a study of four runs begins in an empty folder. After a random part of the time that it takes undisturbed,
all its own processes are killed or, on a cluster, in turns one worker of the cluster and (Ray) one of its two machines.
Every file that is there must open. The same command does the rest, and the table must be that of the undisturbed study
but for the columns of seconds. Not collected by an ordinary `pytest`.

examples:
  python tests/figures/kills.py --kills 20 --csv kills.csv
  python tests/figures/kills.py --where ray --kills 5
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))

import killed_studies as studies

_COLUMNS = ("where", "kill", "killed", "after_seconds", "finished_runs_kept", "opens", "same_rows")


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, print a table and return the exit status: 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--where", nargs="+", choices=("local", "dask", "ray"), default=["local", "dask", "ray"])
    parser.add_argument("--kills", type=int, default=20, help="kills in each place (20)")
    parser.add_argument("--n-jobs", type=int, default=2, help="runs at a time, where no cluster does them (2)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    print(*_COLUMNS, sep="\t")
    rows = []
    for where in options.where:
        moments = random.Random(f"{where} {options.seed}")
        with tempfile.TemporaryDirectory() as folder:
            for row in _kills(where, Path(folder), options, moments):
                rows.append(row)
                print(*row, sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    return int(not all(opens and same for *_, opens, same in rows))


@contextmanager
def _cluster(where: str, n_jobs: int) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Start a cluster, and give it with the arguments of a study that uses it."""
    if where == "local":
        yield None, {"n_jobs": n_jobs}
    elif where == "dask":
        with studies.dask_cluster() as cluster:
            yield cluster, {"cluster": cluster.scheduler_address}
    else:
        with studies.ray_cluster(cpus=1, machines=3) as cluster:
            yield cluster, {"cluster": "ray://auto", "environment": {"RAY_ADDRESS": cluster.address}}


def _kills(where: str, folder: Path, options: Any, moments: random.Random) -> Iterator[tuple[Any, ...]]:
    with _cluster(where, options.n_jobs) as (_, there):
        for name in ("first", "undisturbed"):  # at first everything is loaded once
            started = time.perf_counter()
            studies.finish(studies.begin(folder / name, **there), folder / name)
            seconds = time.perf_counter() - started
    expected = studies.rows_but_for_seconds(folder / "undisturbed")
    for number in range(options.kills):
        out, after = folder / f"study{number}", moments.uniform(0, seconds)
        with _cluster(where, options.n_jobs) as (cluster, there):
            study = studies.begin(out, **there)
            study.join(after)
            killed, victims = _victims(where, cluster, number)
            if victims:
                os.kill(moments.choice(victims), signal.SIGKILL)
                study.join()
            else:
                killed = "study"
                studies.kill(study)
            try:
                kept, opens = studies.open_everything(out), True
            except ValueError as error:
                print(error, file=sys.stderr)
                kept, opens = 0, False
            studies.finish(studies.begin(out, **there), out)
        same = studies.rows_but_for_seconds(out) == expected
        yield where, number, killed, round(after, 1), kept, opens, same


def _victims(where: str, cluster: Any, number: int) -> tuple[str, list[int]]:
    """Return what is killed this time and the processes to choose from; none: the study's own."""
    turn = number % {"local": 1, "dask": 2, "ray": 3}[where]
    if turn == 1:
        return "worker", studies.worker_processes(cluster)
    return ("machine", studies.machines(cluster)) if turn == 2 else ("study", [])


if __name__ == "__main__":
    sys.exit(main())
