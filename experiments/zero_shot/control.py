"""CartPole and Acrobot: DQN trained for a third of the steps it needs, and in full, each symmetrized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents import symmetrize_agent
from equirl.experiments.checks import check_counts, check_names
from equirl.experiments.hyperparameters import settings_for
from equirl.experiments.outputs import check_output_folder, write_tables
from equirl.experiments.runs import Rows, run_file, run_missing

__all__ = ["COLUMNS", "CONTROL_TASKS", "ControlConfig", "ControlTask", "run_control"]

COLUMNS = ("environment", "stage", "variant", "seed", "timesteps", "mean_return", "std_return", "n_episodes")

VARIANTS: dict[str, tuple[str | None, Mapping[str, Any]]] = {
    "plain": (None, {}),
    "equitune": ("equitune", {}),
    "equizero, max_value": ("equizero", {"proxy_loss": "max_value"}),
    "equizero, target_disagreement": ("equizero", {"proxy_loss": "target_disagreement"}),
    "equizero, bellman_residual": ("equizero", {"proxy_loss": "bellman_residual"}),
    "equizero, novelty": ("equizero", {"proxy_loss": "novelty"}),
    "λ-equitune, inputs": ("lambda_equitune", {"reads": "inputs", "hidden": (64,)}),
}
"""What is compared, by name: a method and its settings."""


@dataclass(frozen=True)
class ControlTask:
    """A task: its symmetry, the mean return that counts as learned, and the longest training."""

    symmetry: str
    threshold: float
    total_timesteps: int


CONTROL_TASKS: dict[str, ControlTask] = {
    "CartPole-v1": ControlTask("cartpole-z2", 475.0, 50_000),
    "Acrobot-v1": ControlTask("acrobot-z2", -100.0, 100_000),
}
"""The tasks by Gymnasium id. The thresholds are Gymnasium's own reward thresholds."""


@dataclass(frozen=True)
class ControlConfig:
    """Settings of the study; every one is recorded beside the results."""

    environments: tuple[str, ...] = tuple(CONTROL_TASKS)
    """Gymnasium ids."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """What is compared."""
    n_seeds: int = 5
    """Seeds 0 .. n_seeds - 1 of the trained agents."""
    n_episodes: int = 100
    """Evaluation episodes of each variant."""
    eval_freq: int = 1_000
    """Environment steps between two evaluations (20 episodes) that look for the end of training."""
    total_timesteps: int | None = None
    """Longest training, instead of the task's own."""
    n_jobs: int = 2
    """Runs at a time, one torch thread each."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://...) or a Ray cluster (ray://...) that does the runs instead."""
    out: Path = Path("logs/benchmark/control")
    """Folder of the results."""
    report_only: bool = False
    """Only write the table and the plot again, from the CSV."""

    def __post_init__(self) -> None:
        check_names("task", self.environments, CONTROL_TASKS)
        check_names("variant", self.variants, VARIANTS)
        check_counts(self, "n_seeds", "n_episodes", "eval_freq", "total_timesteps", "n_jobs")


_Job = tuple[ControlConfig, str, int]


def run_control(config: ControlConfig) -> None:
    """Run what is not done yet and write ``study.csv`` and ``record.json`` into ``config.out``.

    Raises:
        ValueError: The folder cannot be written to.
    """
    check_output_folder(config.out)
    jobs: list[_Job] = [
        (config, environment, seed) for environment in config.environments for seed in range(config.n_seeds)
    ]
    run_missing(jobs, _run, _file_of, COLUMNS, config.n_jobs, config.cluster)
    write_tables(config.out, {"study.csv": (COLUMNS, [_file_of(job) for job in jobs])}, config)


def _task(config: ControlConfig, environment: str) -> ControlTask:
    task = CONTROL_TASKS[environment]
    return task if config.total_timesteps is None else replace(task, total_timesteps=config.total_timesteps)


def _variants(config: ControlConfig) -> dict[str, tuple[str | None, Mapping[str, Any]]]:
    return {name: VARIANTS[name] for name in config.variants}


def _file_of(job: _Job) -> Path:
    config, environment, seed = job
    task = _task(config, environment)
    settings = settings_for("dqn", environment, task.total_timesteps)
    decisive = [str(task), config.n_episodes, config.eval_freq, settings, str(_variants(config))]
    return run_file(config.out, f"{environment}-seed{seed}", decisive)


def _run(job: _Job) -> Rows:
    config, environment, seed = job
    torch.set_num_threads(1)
    task = _task(config, environment)
    full = _train(config, environment, seed, until_learned=True)
    third = _train(config, environment, seed, until_learned=False, total_timesteps=full.num_timesteps // 3)
    rows: list[tuple[Any, ...]] = []
    for stage, model in (("a third", third), ("full", full)):
        for name, (method, settings) in _variants(config).items():
            agent = model if method is None else symmetrize_agent(model, task.symmetry, method, settings)
            evaluation = make_vec_env(environment, 10, seed=seed + 1000)
            returns, _ = evaluate_policy(
                agent, evaluation, n_eval_episodes=config.n_episodes, return_episode_rewards=True
            )
            mean, spread = round(float(np.mean(returns)), 2), round(float(np.std(returns)), 2)
            rows.append((environment, stage, name, seed, model.num_timesteps, mean, spread, config.n_episodes))
            print(f"{environment} {stage} {name} seed {seed}: {mean} ± {spread}", flush=True)
    return rows


def _train(
    config: ControlConfig, environment: str, seed: int, until_learned: bool, total_timesteps: int | None = None
) -> DQN:
    task = _task(config, environment)
    settings = settings_for("dqn", environment, task.total_timesteps)
    del settings["n_envs"]
    model = DQN("MlpPolicy", gym.make(environment), seed=seed, device="cpu", **settings)
    # The same schedule for both: a third is a run that was stopped early, not a shorter plan.
    callback: BaseCallback = (
        _UntilLearned(config, environment, task.threshold) if until_learned else _Until(total_timesteps or 0)
    )
    model.learn(task.total_timesteps, callback=callback)
    return model


class _UntilLearned(BaseCallback):
    """Ends training at the first evaluation whose mean return reaches the threshold."""

    def __init__(self, config: ControlConfig, environment: str, threshold: float) -> None:
        super().__init__()
        self._freq = config.eval_freq
        self._threshold = threshold
        self._environments = make_vec_env(environment, 10, seed=10_000)

    def _on_step(self) -> bool:
        if self.num_timesteps % self._freq:
            return True
        mean, _ = evaluate_policy(self.model, self._environments, n_eval_episodes=20)
        return float(np.mean(mean)) < self._threshold


class _Until(BaseCallback):
    """Ends training after a number of steps."""

    def __init__(self, total_timesteps: int) -> None:
        super().__init__()
        self._total = total_timesteps

    def _on_step(self) -> bool:
        return self.num_timesteps < self._total
