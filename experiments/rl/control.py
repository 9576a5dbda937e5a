"""``equirl study control``: CartPole and Acrobot agents, trained in full and for a third of that, then symmetrized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import tyro
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents import symmetrize_agent
from equirl.experiments.checks import check_counts, check_names
from equirl.experiments.rl.hyperparameters import settings_for
from equirl.experiments.rl.symmetrized_report import report_control
from equirl.experiments.study import Stage, Study, StudyOptions
from equirl.experiments.tables import Rows
from equirl.experiments.training import EvaluateAndStop

__all__ = ["COLUMNS", "CONTROL", "CONTROL_TASKS", "ControlOptions", "ControlTask"]

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

if TYPE_CHECKING:
    VariantName: TypeAlias = str
else:
    VariantName = Literal[tuple(VARIANTS)]

EnvironmentName = Literal["CartPole-v1", "Acrobot-v1"]


@dataclass(frozen=True)
class ControlTask:
    """A task: its symmetry, the mean return that counts as learned, and the longest training."""

    symmetry: str
    threshold: float
    total_timesteps: int


CONTROL_TASKS: dict[EnvironmentName, ControlTask] = {
    "CartPole-v1": ControlTask("cartpole-z2", 475.0, 50_000),
    "Acrobot-v1": ControlTask("acrobot-z2", -100.0, 100_000),
}
"""The tasks by Gymnasium id. The thresholds are Gymnasium's own reward thresholds."""


@dataclass(frozen=True)
class ControlOptions(StudyOptions):
    """CartPole and Acrobot agents, partly and fully trained, then symmetrized."""

    out: Path = Path("logs/study/control")
    """Folder of the results."""
    environments: tuple[EnvironmentName, ...] = tuple(CONTROL_TASKS)
    """Gymnasium ids."""
    # The names have commas in them: the help is to list them once, quoted.
    variants: Annotated[tuple[VariantName, ...], tyro.conf.arg(metavar="NAME ...")] = tuple(VARIANTS)
    """What is compared."""
    n_episodes: int = 100
    """Evaluation episodes of each variant."""
    eval_freq: int = 1_000
    """Environment steps between two evaluations (20 episodes) that look for the end of training."""
    total_timesteps: int | None = None
    """Longest training, instead of the task's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("task", self.environments, CONTROL_TASKS)
        check_names("variant", self.variants, VARIANTS)
        check_counts(self, "n_episodes", "eval_freq", "total_timesteps")


_Job = tuple[ControlOptions, EnvironmentName, int]


def _stages(options: ControlOptions) -> list[Stage[_Job]]:
    jobs = [(options, environment, seed) for environment in options.environments for seed in range(options.seeds)]
    return [Stage(jobs, _run, _file_of, COLUMNS)]


def _task(options: ControlOptions, environment: EnvironmentName) -> ControlTask:
    task = CONTROL_TASKS[environment]
    return task if options.total_timesteps is None else replace(task, total_timesteps=options.total_timesteps)


def _variants(options: ControlOptions) -> dict[str, tuple[str | None, Mapping[str, Any]]]:
    return {name: VARIANTS[name] for name in options.variants}


def _file_of(job: _Job) -> Path:
    options, environment, seed = job
    task = _task(options, environment)
    settings = settings_for("dqn", environment, task.total_timesteps)
    decisive = [str(task), options.n_episodes, options.eval_freq, settings, str(_variants(options))]
    return options.run_file(f"{environment}-seed{seed}", *decisive)


def _run(job: _Job) -> Rows:
    options, environment, seed = job
    task = _task(options, environment)
    full = _train(options, environment, seed)
    third = _train(options, environment, seed, full.num_timesteps // 3)
    rows: list[tuple[Any, ...]] = []
    for stage, model in (("a third", third), ("full", full)):
        for name, (method, settings) in _variants(options).items():
            agent = model if method is None else symmetrize_agent(model, task.symmetry, method, settings)
            evaluation = make_vec_env(environment, 10, seed=seed + 1000)
            returns, _ = evaluate_policy(
                agent, evaluation, n_eval_episodes=options.n_episodes, return_episode_rewards=True
            )
            mean, spread = round(float(np.mean(returns)), 2), round(float(np.std(returns)), 2)
            rows.append((environment, stage, name, seed, model.num_timesteps, mean, spread, options.n_episodes))
            print(f"{environment} {stage} {name} seed {seed}: {mean} ± {spread}", flush=True)
    return rows


def _train(options: ControlOptions, environment: EnvironmentName, seed: int, until: int | None = None) -> DQN:
    """Return an agent trained for so many environment steps, or else until it has learned."""
    task = _task(options, environment)
    settings = settings_for("dqn", environment, task.total_timesteps)
    del settings["n_envs"]
    model = DQN("MlpPolicy", gym.make(environment), seed=seed, device=options.device, **settings)
    # The same schedule for both: a third is a run that was stopped early, not a shorter plan.
    if until is not None:
        return model.learn(task.total_timesteps, callback=lambda *_: model.num_timesteps < until)
    environments = make_vec_env(environment, 10, seed=10_000)

    def measure(agent: DQN) -> tuple[float]:
        return (float(np.mean(evaluate_policy(agent, environments, n_eval_episodes=20)[0])),)

    return model.learn(
        task.total_timesteps, callback=EvaluateAndStop(measure, options.eval_freq, task.threshold, stop_after=1)
    )


CONTROL = Study(_stages, lambda options: report_control(options.out))
"""``equirl study control``."""
