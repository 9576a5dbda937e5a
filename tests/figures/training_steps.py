"""Measure what a training step with continuous actions costs under a mirror, beside the plain agent in the same run.

One core, one thread, networks of 256-256. The agents take turns, a few gradient steps each, and the ratio of a turn to
the plain agent's turn next to it is noted: other work on the machine hits both. Not collected by an ordinary `pytest`.

examples:
  python tests/figures/training_steps.py
  python tests/figures/training_steps.py --algorithms sac --rounds 30 --csv steps.csv
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

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO, SAC, TD3

from equirl.agents import (
    METHODS,
    EquivariantActorCriticPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
)

_ALGORITHMS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sac": (SAC, EquivariantSACPolicy, {"buffer_size": 2_000, "learning_starts": 300, "batch_size": 256}),
    "td3": (TD3, EquivariantTD3Policy, {"buffer_size": 2_000, "learning_starts": 300, "batch_size": 256}),
    "ppo": (PPO, EquivariantActorCriticPolicy, {"n_steps": 512, "batch_size": 64, "n_epochs": 1}),
}
_COLUMNS = ("algorithm", "method", "milliseconds", "ratio_to_plain", "low", "high", "rounds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=sorted(_ALGORITHMS), default=["sac", "ppo"])
    parser.add_argument("--rounds", type=int, default=20, help="turns of each agent (20)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args(arguments)
    if options.rounds < 3:
        parser.error(f"argument --rounds: at least 3 give a median and a spread; got {options.rounds}")
    torch.set_num_threads(1)
    rows = [row for name in options.algorithms for row in _measured(name, options.rounds)]
    print(f"{'algorithm':10}{'method':17}{'ms':>8}{'ratio':>8}   quartiles")
    for name, method, milliseconds, ratio, low, high, _ in rows:
        print(f"{name:10}{method:17}{milliseconds:8.2f}{ratio:8.2f}   {low:.2f} to {high:.2f}")
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([_COLUMNS, *rows])
    return 0


def _measured(name: str, rounds: int) -> list[tuple[Any, ...]]:
    agents = {method: _agent(name, method) for method in ("plain", *METHODS)}
    seconds: dict[str, list[float]] = {method: [] for method in agents}
    for _ in range(rounds):
        for method, agent in agents.items():
            seconds[method].append(_turn(agent))
    plain = np.array(seconds["plain"])
    rows = []
    for method, taken in seconds.items():
        ratios = np.array(taken) / plain
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        rows.append(
            (
                name,
                method,
                round(1e3 * float(np.median(taken)), 3),
                *(round(float(x), 3) for x in (middle, low, high)),
                rounds,
            )
        )
    return rows


def _agent(name: str, method: str) -> Any:
    """Return an agent that has begun to learn, so that its buffer is full enough."""
    algorithm, policy, settings = _ALGORITHMS[name]
    own = {} if method == "plain" else {"symmetry": "pendulum-z2", "method": method}
    fused = {"fused": True} if name != "ppo" else {"fused": True, "eps": 1e-5}
    kwargs = {"net_arch": [256, 256], "optimizer_kwargs": fused, **own}
    chosen = "MlpPolicy" if method == "plain" else policy
    agent = algorithm(chosen, gym.make("Pendulum-v1"), policy_kwargs=kwargs, device="cpu", seed=0, **settings)
    return agent.learn(512 if name == "ppo" else 310)


def _turn(agent: Any) -> float:
    """Return the CPU seconds of one gradient step, the mean of a few."""
    start = time.process_time()
    if isinstance(agent, PPO):
        agent.train()
        steps = agent.n_steps // agent.batch_size
    else:
        steps = 8
        agent.train(gradient_steps=steps, batch_size=agent.batch_size)
    return (time.process_time() - start) / steps


if __name__ == "__main__":
    raise SystemExit(main())
