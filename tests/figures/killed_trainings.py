"""Kill `equirl train` at random moments, let it go on, and compare it with the run that was never killed.

Not collected by an ordinary `pytest`.

examples:
  python tests/figures/killed_trainings.py --csv killed_trainings.csv
  python tests/figures/killed_trainings.py --kills 3 --train --env CartPole-v1 --algo ppo -n 20000
"""

from __future__ import annotations

import argparse
import csv
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

_COLUMNS = ("kill", "seconds", "files_open", "weights", "evaluations", "episodes")
_TRAIN = ["--method", "equitune", "-n", "8000", "--seed", "0"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print a table and return the exit status: 1 if a run went on to something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="how many runs are killed (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    parser.add_argument("--train", nargs=argparse.REMAINDER, default=_TRAIN, help="options of equirl train; the last")
    options = parser.parse_args(arguments)
    moments = random.Random(options.seed)
    rows: list[tuple[Any, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        begun = time.monotonic()
        _train(Path(folder, "whole"), options.train).wait()
        length = time.monotonic() - begun
        print(*_COLUMNS, sep="\t")
        for number in range(options.kills):
            moment = round(moments.uniform(0, length), 2)
            rows.append((number, moment, *_killed(Path(folder, f"cut{number}"), options.train, moment, Path(folder))))
            print(*rows[-1], sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    return 0 if all(row[2:] == ("yes", "equal", "equal", "equal") for row in rows) else 1


def _train(logs: Path, options: Sequence[str]) -> subprocess.Popen[bytes]:
    logs.mkdir(exist_ok=True)
    words = ["-m", "equirl", "train", *options, "-f", str(logs), "--snapshot-every", "0.5", "--summary-episodes", "0"]
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _killed(logs: Path, options: Sequence[str], moment: float, folder: Path) -> tuple[str, ...]:
    """Return whether the files of the killed run open, and whether what it came to equals the whole run."""
    process = _train(logs, options)
    time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    process.wait()
    opened = "yes" if _open(logs) else "no"
    if list(logs.glob("*/*/*/started.json")):
        command = [sys.executable, "-m", "equirl", "train", "--resume", "-f", str(logs)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    elif not list(logs.glob("*/*_*/*.zip")):
        _train(logs, options).wait()  # it had not begun, and keeps nothing
    whole, cut = _results(folder / "whole"), _results(logs)
    return (opened, *("equal" if whole[name] == cut.get(name) else "other" for name in whole))


def _open(logs: Path) -> bool:
    for path in logs.rglob("*"):
        if path.name.startswith("."):
            continue  # a file that was being written
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                if file.testzip() is not None:
                    return False
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                [arrays[name] for name in arrays]
    return True


def _results(logs: Path) -> dict[str, Any]:
    """Return weights, evaluations and episodes of a run that has ended, as bytes that can be compared."""
    run = max(path for path in logs.glob("*/*_*") if path.parent.name != "tensorboard")
    agents = [path for path in run.glob("*.zip") if path.name != "best_model.zip"]
    if not agents:
        return {}
    with zipfile.ZipFile(agents[0]) as file, file.open("policy.pth") as opened:
        weights = torch.load(opened, weights_only=True)
    with np.load(run / "evaluations.npz") as arrays:
        evaluations = {name: arrays[name].tolist() for name in arrays}
    lines = (run / "0.monitor.csv").read_text(encoding="utf-8").splitlines()[1:]
    episodes = [line.split(",")[:2] for line in lines]
    return {
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
        "evaluations": evaluations,
        "episodes": episodes,
    }


if __name__ == "__main__":
    sys.exit(main())
