"""A swarm of three robots learned by SAC, and the same agents let loose on five and eight robots.

`shared in frames` is one policy for all robots, each in its own frame, which is exact under S_n x O(2)
(`equirl.agents.shared_policy`). The others see and move the whole swarm at once, and know no other number of robots:
plain SAC, SAC with transitions moved by S_3 x D4 (`augmentation`), and `canonical` over S_3 x D4. All have the same
hyperparameters. Runs that stand in the CSV are kept: start it again to go on. Not collected by an ordinary `pytest`.

example:
  python tests/figures/swarm.py --out experiments/results/swarm
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import SAC

from equirl.agents.comparison import make_agent
from equirl.agents.shared_policy import RobotsVecEnv, SharedPolicy
from equirl.envs.swarm import SwarmEnv
from equirl.experiments.records import write_record
from equirl.files import written_whole

_AGENTS = ("plain", "augmentation", "canonical", "shared in frames")
_SIZES = (3, 5, 8)
_COLUMNS = ("agent", "seed", "steps", *(f"success_{n}" for n in _SIZES), "cpu_seconds")
_SETTINGS: dict[str, Any] = {
    "learning_rate": 1e-3,
    "ent_coef": 0.005,
    "batch_size": 128,
    "learning_starts": 500,
    "gamma": 0.97,
    "policy_kwargs": {"net_arch": [64, 64]},
}


@dataclass(frozen=True)
class _Settings:
    """What the record keeps."""

    seeds: int
    steps: int
    eval_freq: int
    episodes: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write the table and the record, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of study.csv and record.json")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 .. seeds - 1 (5)")
    parser.add_argument("--steps", type=int, default=6000, help="steps of the swarm in each run (6000)")
    parser.add_argument("--eval-freq", type=int, default=500, help="steps between two evaluations (500)")
    parser.add_argument("--episodes", type=int, default=50, help="episodes of each evaluation (50)")
    options = parser.parse_args(arguments)
    if not 1 <= options.eval_freq <= options.steps or min(options.seeds, options.episodes) < 1:
        parser.error("--seeds, --episodes and --eval-freq are at least 1, and --steps at least --eval-freq")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    path, kept = options.out / "study.csv", list[list[str]]()
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            kept = list(csv.reader(file))[1:]
    ended = {(row[0], row[1]) for row in kept if int(row[2]) >= options.steps}
    rows: list[Sequence[Any]] = [row for row in kept if (row[0], row[1]) in ended]
    for seed in range(options.seeds):
        for agent in _AGENTS:
            if (agent, str(seed)) in ended:
                continue
            for row in _run(agent, seed, options):
                rows.append((agent, seed, *row))
                print(*rows[-1], sep="\t", flush=True)
            with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_record(
        options.out / "record.json", _Settings(options.seeds, options.steps, options.eval_freq, options.episodes)
    )
    return 0


def _run(agent: str, seed: int, options: argparse.Namespace) -> Iterator[tuple[Any, ...]]:
    shared = agent == "shared in frames"
    model: Any
    if shared:
        robots = RobotsVecEnv()
        robots.seed(seed)
        model = SAC("MlpPolicy", robots, seed=seed, device="cpu", **_SETTINGS)
    else:
        world = gym.make("equirl/Swarm-v0")
        model = make_agent("sac", world, _SETTINGS, method=agent, symmetry="swarm-d4", seed=seed, device="cpu")
    spent = 0.0
    for steps in range(options.eval_freq, options.steps + 1, options.eval_freq):
        begun = time.process_time()
        rows = options.eval_freq * (_SIZES[0] if shared else 1)
        model.learn(rows, reset_num_timesteps=steps == options.eval_freq)
        spent += time.process_time() - begun
        policy = SharedPolicy(model) if shared else model
        sizes = _SIZES if shared else _SIZES[:1]
        rates = [_success(policy, n, options.episodes) for n in sizes]
        yield steps, *rates, *[""] * (len(_SIZES) - len(sizes)), round(spent, 1)


def _success(policy: Any, n_robots: int, episodes: int) -> float:
    """Return the share of episodes, the same for all agents, in which all robots arrive."""
    world, arrived = SwarmEnv(n_robots), 0
    for episode in range(episodes):
        observation, _ = world.reset(seed=10_000 + episode)
        over = False
        while not over:
            action, _ = policy.predict(observation, deterministic=True)
            observation, _, terminated, truncated, info = world.step(action)
            over = terminated or truncated
        arrived += int(info["is_success"])
    return arrived / episodes


if __name__ == "__main__":
    sys.exit(main())
