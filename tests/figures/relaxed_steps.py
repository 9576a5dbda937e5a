"""Measure what training on the grid costs with a gate, beside its exact method, and with a margin, beside canonical.

One core, one thread, DQN with the settings of the exact method, 128 environments, `GateTraining` included. The agents
of a pair take turns of some thousand environment steps, and the ratio of a turn to the other's turn next to it is
noted: other work on the machine hits both. Not collected by an ordinary `pytest`.

examples:
  python tests/figures/relaxed_steps.py
  python tests/figures/relaxed_steps.py --rounds 20 --csv relaxed_steps.csv
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

import numpy as np
import torch

from equirl.agents.comparison import make_agent
from equirl.agents.gate_training import gate_callbacks
from equirl.agents.our_hyperparameters import settings_for, with_exploration
from equirl.agents.vector_env import make_vectorized_env

_GRID = "equirl/GridWorld-v0"
_STEPS = 2_560
_PAIRS: dict[str, tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]] = {
    "partial to equitune": (("partial", {}), ("equitune", {})),
    "partial, td to equitune": (("partial", {"gate": "td"}), ("equitune", {})),
    "partial_weights to equitune": (("partial_weights", {}), ("equitune", {})),
    "partial, canonical to canonical": (("partial", {"exact": "canonical"}), ("canonical", {})),
    "margin 0.03 to canonical": (("canonical", {"margin": 0.03}), ("canonical", {})),
    "margin 0.1 to canonical": (("canonical", {"margin": 0.1}), ("canonical", {})),
}
_COLUMNS = ("pair", "ratio", "low", "high", "rounds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and return exit status 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="turns of each agent (12)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(*_COLUMNS, sep="\t")
    rows = []
    for name, (first, second) in _PAIRS.items():
        settings = settings_for("dqn", _GRID, 60_000, second[0], "grid-d4")
        agents = [_agent(method, kwargs, settings) for method, kwargs in (first, second)]
        for agent in agents:
            _turn(agent)
        ratios = np.array([_turn(agents[0]) / _turn(agents[1]) for _ in range(options.rounds)])
        low, middle, high = np.percentile(ratios, [25, 50, 75]).round(2).tolist()
        rows.append((name, middle, low, high, options.rounds))
        print(*rows[-1], sep="\t", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    return 0


def _agent(method: str, kwargs: dict[str, Any], settings: dict[str, Any]) -> Any:
    own = with_exploration(settings, 60_000) | {"learning_starts": 500}
    world = make_vectorized_env(_GRID, own.pop("n_envs"), 0, {"size": 7, "broken_cells": 0.05})
    how = {"method": method, "symmetry": "grid-d4", "method_kwargs": kwargs}
    return make_agent("dqn", world, own, seed=0, device="cpu", **how)


def _turn(agent: Any) -> float:
    """Return the CPU seconds of some steps."""
    started = time.process_time()
    agent.learn(_STEPS, reset_num_timesteps=False, callback=agent.__dict__.setdefault("gates", gate_callbacks(agent)))
    return time.process_time() - started


if __name__ == "__main__":
    raise SystemExit(main())
