"""Other libraries beside ours, each in a Python that has them: none of them installs beside current torch and NumPy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import equirl
from equirl.experiments.cost.measurement import Measurement
from equirl.experiments.timing import Settings

__all__ = ["PEERS", "measure_peers"]

PEERS = "peers: C4, convolutions of 32 channels"


def measure_peers(settings: Settings, python: str | None) -> Iterator[Measurement]:
    """Yield forward, and forward + backward, of escnn and equiadapt beside ours and the plain network, on the CPU.

    Args:
        settings: How often.
        python: The Python to run; ``None``: this one.
    """
    script = Path(__file__).with_name("peers_script.py")
    command = [python or sys.executable, str(script), str(settings.rounds), "1,32" if settings.quick else "1,32,256"]
    # The folder that holds the package equirl, for a Python where it is not installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(equirl.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    try:
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{command[0]} cannot be run ({error}); name a Python") from error
    if run.returncode:
        print(f"peers: {command[0]} failed with status {run.returncode}; see above", file=sys.stderr)
    for line in run.stdout.splitlines():
        case = json.loads(line)
        if "missing" in case:
            print(f"peers: {case['missing']} is not installed in {command[0]}", file=sys.stderr)
            continue
        plain = np.array(case["seconds"]["plain"])
        for name, times in case["seconds"].items():
            low, middle, high = np.percentile(times, [25, 50, 75])
            yield Measurement(
                f"{PEERS}, {case['what']}",
                name,
                "-" if name == "plain" else "C4",
                "cnn",
                8,
                case["batch"],
                float(middle),
                float(low),
                float(high),
                ratio_to_plain=float(np.median(np.array(times) / plain)),
                rounds=len(times),
            )
