"""Measure what a gradient step of DQN on the grid costs on a device, by batch and method, in its own training loop.

64 environments, eight gradient steps after each pass, D4, an MLP of 128-128. Not collected by an ordinary `pytest`.

examples:
  python tests/figures/batch_sizes.py --device cuda --csv batch_sizes.csv
  python tests/figures/batch_sizes.py --batches 32 256
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from stable_baselines3 import DQN

import equirl.envs  # noqa: F401  (registers the grid's symmetries)
from equirl.agents import METHODS, EquivariantDQNPolicy, make_vectorized_env

_COLUMNS = ("device", "batch", "method", "milliseconds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="torch device (cpu)")
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 256, 1024], help="samples (32 256 1024)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    on_gpu = torch.device(options.device).type == "cuda"
    name = torch.cuda.get_device_name(options.device) if on_gpu else options.device
    rows = []
    for batch in options.batches:
        for method in ("plain", *METHODS):
            rows.append((name, batch, method, round(1000 * _seconds(method, batch, options.device), 2)))
            print(*rows[-1], sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    return 0


def _seconds(method: str, batch: int, device: str) -> float:
    """Return the seconds of a gradient step, with its share of acting and storing."""
    own: dict[str, Any] = {} if method == "plain" else {"symmetry": "grid-d4", "method": method}
    agent = DQN(
        "MlpPolicy" if method == "plain" else EquivariantDQNPolicy,
        make_vectorized_env(n_envs=64, seed=0),
        learning_starts=500,
        train_freq=1,
        gradient_steps=8,
        batch_size=batch,
        buffer_size=50_000,
        device=device,
        seed=0,
        policy_kwargs={"net_arch": [128, 128], **own},
    )
    agent.learn(1_500)
    before = agent._n_updates
    begun = _now(device)
    agent.learn(3_000, reset_num_timesteps=False)
    return (_now(device) - begun) / (agent._n_updates - before)


def _now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    raise SystemExit(main())
