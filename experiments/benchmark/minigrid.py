"""The MiniGrid study: symmetrized agents against plain ones and against augmentation, on three tasks."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents import METHODS, SymmetryReplayBuffer, SymmetryRolloutBuffer
from equirl.agents.loading import ALGORITHMS
from equirl.agents.policies import POLICY_CLASSES
from equirl.experiments.benchmark.report import draw_learning_curves, summary_table
from equirl.experiments.checks import check_counts, check_names
from equirl.experiments.hyperparameters import settings_for, view_of
from equirl.experiments.outputs import check_output_folder, write_tables
from equirl.experiments.runs import Rows, run_file, run_missing
from equirl.experiments.study_files import read_study
from equirl.files import written_whole
from equirl.names import unknown_name_message

__all__ = ["TASKS", "MinigridConfig", "Task", "report_minigrid", "run_minigrid"]

COLUMNS = ("environment", "agent", "seed", "timesteps", "success_rate", "train_seconds")


@dataclass(frozen=True)
class Task:
    """One task of the study.

    Attributes:
        environment_id: Gymnasium id.
        algorithm: By rl_zoo3's name; our hyperparameter file for it has an entry for the environment.
        symmetry: Name of the symmetry.
        threshold: Success rate that counts as learned.
        total_timesteps: Steps after which a run ends in any case.
        eval_freq: Steps between two evaluations.
        agents: ``"plain"``, ``"augmentation"`` or a method.
    """

    environment_id: str
    algorithm: str
    symmetry: str
    threshold: float
    total_timesteps: int
    eval_freq: int
    agents: tuple[str, ...]


TASKS: dict[str, Task] = {
    "empty-room": Task(
        "equirl/EmptyRoom-v0", "dqn", "minigrid-d4", 0.95, 40_000, 1_000, ("plain", "augmentation", *METHODS)
    ),
    "four-rooms": Task(
        "MiniGrid-FourRooms-v0",
        "ppo",
        "minigrid-egocentric-z2",
        0.5,
        300_000,
        20_480,
        ("plain", "augmentation", "equitune"),
    ),
    "door-key": Task(
        "MiniGrid-DoorKey-5x5-v0",
        "ppo",
        "minigrid-egocentric-z2",
        0.95,
        100_000,
        4_096,
        ("plain", "augmentation", "equitune"),
    ),
}
"""The tasks by name."""


@dataclass(frozen=True)
class MinigridConfig:
    """Settings of the study; every one is recorded beside the results."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks, by name."""
    agents: tuple[str, ...] = ()
    """Of each task's agents only these; none named: all."""
    n_seeds: int = 3
    """Seeds 0 .. n_seeds - 1 for each agent."""
    n_eval_episodes: int = 100
    """Episodes of each evaluation; DQN acts greedily, PPO samples."""
    total_timesteps: int | None = None
    """Steps after which a run ends in any case, instead of the task's own."""
    stop_after: int = 3
    """A run ends after so many evaluations in a row at the threshold or above; its last value is carried on."""
    n_jobs: int = 2
    """Runs at a time, one torch thread each."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://...) or a Ray cluster (ray://...) that does the runs instead."""
    out: Path = Path("logs/benchmark/minigrid")
    """Folder of the results."""
    report_only: bool = False
    """Only write the table and the plot again, from the CSV."""

    def __post_init__(self) -> None:
        check_names("task", self.tasks, TASKS)
        if self.agents:
            check_names("agent", self.agents, {agent for name in self.tasks for agent in TASKS[name].agents})
        check_counts(self, "n_seeds", "n_eval_episodes", "total_timesteps", "stop_after", "n_jobs")
        for name in self.tasks:
            least = TASKS[name].eval_freq
            if self.total_timesteps is not None and self.total_timesteps < least:
                raise ValueError(
                    f"total_timesteps must be at least {least}, or {name} is never evaluated; got "
                    f"{self.total_timesteps}"
                )


_Job = tuple[MinigridConfig, str, str, int]


def run_minigrid(config: MinigridConfig) -> None:
    """Run what is not done yet and write ``study.csv`` and ``record.json`` into ``config.out``.

    Raises:
        ValueError: The folder cannot be written to.
    """
    check_output_folder(config.out)
    jobs: list[_Job] = [
        (config, task, agent, seed)
        for task in config.tasks
        for seed in range(config.n_seeds)
        for agent in TASKS[task].agents
        if agent in (config.agents or TASKS[task].agents)
    ]
    run_missing(jobs, _run, _file_of, COLUMNS, config.n_jobs, config.cluster)
    in_order = sorted(jobs, key=lambda job: (config.tasks.index(job[1]), TASKS[job[1]].agents.index(job[2]), job[3]))
    write_tables(config.out, {"study.csv": (COLUMNS, [_file_of(job) for job in in_order])}, config)


def report_minigrid(folder: Path) -> str:
    """Write ``summary.md`` and ``learning_curves.png`` beside ``study.csv``, and return the tables.

    Raises:
        FileNotFoundError: There is no ``study.csv`` in the folder.
        ValueError: It is the CSV of another study.
    """
    study = read_study(folder / "study.csv", COLUMNS, "equirl benchmark minigrid")
    tasks = {task.environment_id: task for task in TASKS.values()}
    for environment in study.environment.unique():
        if environment not in tasks:
            raise ValueError(f"{folder / 'study.csv'}: {unknown_name_message('environment', environment, tasks)}")
    parts = {environment: rows for environment, rows in study.groupby("environment", sort=False)}
    tables = []
    for environment, rows in parts.items():
        task = tasks[environment]
        heading = f"**{environment}**, {task.algorithm.upper()}, `{task.symmetry}`"
        tables.append(f"{heading}\n\n{summary_table(rows, task.threshold)}")
    text = "\n\n".join(tables)
    with written_whole(folder / "summary.md") as temporary:
        temporary.write_text(text + "\n")
    with written_whole(folder / "learning_curves.png") as temporary:
        figure = draw_learning_curves(
            parts, {environment: tasks[environment].threshold for environment in parts}, "success rate"
        )
        figure.savefig(temporary, dpi=150, format="png")
    return text


def _task(config: MinigridConfig, name: str) -> Task:
    task = TASKS[name]
    return task if config.total_timesteps is None else replace(task, total_timesteps=config.total_timesteps)


def _file_of(job: _Job) -> Path:
    config, name, agent, seed = job
    task = _task(config, name)
    settings = settings_for(task.algorithm, task.environment_id, task.total_timesteps)
    decisive = [str(task), config.n_eval_episodes, config.stop_after, settings]
    return run_file(config.out, f"{name}-{agent}-seed{seed}", decisive)


def _run(job: _Job) -> Rows:
    config, name, agent, seed = job
    task = _task(config, name)
    torch.set_num_threads(1)
    settings = settings_for(task.algorithm, task.environment_id, task.total_timesteps)
    n_envs, policy_kwargs = settings.pop("n_envs"), settings.pop("policy_kwargs")
    policy: Any = "MlpPolicy"
    if agent == "augmentation":
        kind = "replay" if task.algorithm == "dqn" else "rollout"
        settings[f"{kind}_buffer_class"] = SymmetryReplayBuffer if kind == "replay" else SymmetryRolloutBuffer
        settings[f"{kind}_buffer_kwargs"] = {"symmetry": task.symmetry}
    elif agent != "plain":
        policy = POLICY_CLASSES[task.algorithm]
        policy_kwargs |= {"symmetry": task.symmetry, "method": agent}
        if agent == "lambda_equitune":
            policy_kwargs["method_kwargs"] = {"hidden": (64,)}
    algorithm: Any = ALGORITHMS[task.algorithm]
    model: BaseAlgorithm = algorithm(
        policy, _environments(task, n_envs, seed), seed=seed, device="cpu", policy_kwargs=policy_kwargs, **settings
    )
    evaluation = _Evaluation(config, task, (task.environment_id, agent, seed), _environments(task, 10, seed + 1000))
    model.learn(task.total_timesteps, callback=evaluation)
    last = evaluation.rows[-1]
    print(f"{name} {agent} seed {seed}: success {last[4]} after {last[3]} steps, {last[5]} s", flush=True)
    return evaluation.rows


def _environments(task: Task, n_envs: int, seed: int) -> VecEnv:
    view = view_of(task.algorithm, task.environment_id)
    return make_vec_env(task.environment_id, n_envs, seed=seed, wrapper_class=view)


class _Evaluation(BaseCallback):
    """Evaluates every ``eval_freq`` steps, off the clock, and ends the run once it has learned."""

    def __init__(self, config: MinigridConfig, task: Task, name: tuple[str, str, int], environments: VecEnv) -> None:
        super().__init__()
        self._config = config
        self._task = task
        self._name = name
        self._environments = environments
        self._in_a_row = 0
        self._evaluated = 0
        self._paused = 0.0
        self._started = time.perf_counter()
        self.rows: list[tuple[Any, ...]] = []

    def _on_training_start(self) -> None:
        self._started = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps - self._evaluated < self._task.eval_freq:
            return True
        self._evaluated += self._task.eval_freq
        pause = time.perf_counter()
        successes: list[bool] = []

        def note(local: dict[str, Any], _: dict[str, Any]) -> None:
            if local["done"]:
                successes.append(bool(local["info"]["is_success"]))

        evaluate_policy(
            self.model,
            self._environments,
            n_eval_episodes=self._config.n_eval_episodes,
            deterministic=self._task.algorithm == "dqn",
            callback=note,
        )
        rate = sum(successes) / len(successes)
        seconds = round(pause - self._started - self._paused, 2)
        self.rows.append((*self._name, self.num_timesteps, round(rate, 4), seconds))
        self._in_a_row = self._in_a_row + 1 if rate >= self._task.threshold else 0
        self._paused += time.perf_counter() - pause
        return self._in_a_row < self._config.stop_after
