"""Run what `make train` runs for several seeds, and note the success rate and the seconds of each.

Not collected by an ordinary `pytest`.

examples:
  python tests/figures/make_train.py --csv make_train.csv
  python tests/figures/make_train.py --seeds 3
"""

from __future__ import annotations

import argparse
import csv
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_COLUMNS = ("seed", "success_rate", "episodes", "seconds", "cpu_seconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0 .. seeds - 1 (10)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    print(*_COLUMNS, sep="\t")
    rows = []
    for seed in range(options.seeds):
        rows.append(_run(seed))
        print(*rows[-1], sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    return 0


def _run(seed: int) -> tuple[int, float, int, float, float]:
    command = [sys.executable, "-m", "equirl", "train", "--env", "equirl/GridWorld-v0", "-P", "--seed", str(seed)]
    begun, spent = time.perf_counter(), _cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, "--verbose", "0"], cwd=folder, capture_output=True, text=True, encoding="utf-8", check=True
        )
    found = re.search(r"Success rate: ([\d.]+) \(\d+ of (\d+) ", done.stdout)
    if found is None:
        raise SystemExit(f"seed {seed}: no success rate in\n{done.stdout[-2000:]}")
    seconds = round(time.perf_counter() - begun, 1)
    return seed, float(found[1]), int(found[2]), seconds, round(_cpu_seconds() - spent, 1)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    raise SystemExit(main())
