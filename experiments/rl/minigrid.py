"""``equirl study minigrid``: symmetrized agents against plain ones and against augmentation, on three tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents import METHODS
from equirl.agents.cli.option_checks import check_counts
from equirl.agents.comparison import make_agent
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.our_hyperparameters import settings_for, view_of
from equirl.experiments.rl.report import draw_learning_curves, learning_rows, summary_table
from equirl.experiments.study import Report, Stage, Study, StudyOptions
from equirl.experiments.tables import Rows, read_study
from equirl.names import check_names, unknown_name_message

__all__ = ["MINIGRID", "TASKS", "MinigridOptions", "Task", "TaskName", "task_agent", "task_curve"]

COLUMNS = ("environment", "agent", "seed", "timesteps", "success_rate", "train_seconds", "cpu_seconds")

TaskName = Literal["empty-room", "four-rooms", "door-key"]
AgentName = Literal["plain", "augmentation", "equitune", "lambda_equitune", "equizero", "canonical"]


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


_FEW = ("plain", "augmentation", "equitune")
_Z2 = "minigrid-egocentric-z2"

TASKS: dict[TaskName, Task] = {
    "empty-room": Task(
        "equirl/EmptyRoom-v0", "dqn", "minigrid-d4", 0.95, 40_000, 1_000, ("plain", "augmentation", *METHODS)
    ),
    "four-rooms": Task("MiniGrid-FourRooms-v0", "ppo", _Z2, 0.5, 300_000, 20_480, _FEW),
    "door-key": Task("MiniGrid-DoorKey-5x5-v0", "ppo", _Z2, 0.95, 100_000, 4_096, _FEW),
}
"""The tasks by name."""


@dataclass(frozen=True)
class MinigridOptions(StudyOptions):
    """Plain, augmented and symmetrized DQN and PPO on three MiniGrid tasks."""

    out: Path = Path("logs/study/minigrid")
    """Folder of the results."""
    seeds: int = 3
    """Seeds 0 .. seeds - 1 for each agent."""
    tasks: tuple[TaskName, ...] = tuple(TASKS)
    """Tasks, by name."""
    agents: tuple[AgentName, ...] = ()
    """Agents of each task to run; by default all."""
    n_eval_episodes: int = 100
    """Episodes of each evaluation; DQN acts greedily, PPO samples."""
    total_timesteps: int | None = None
    """Steps after which a run ends in any case, instead of the task's own."""
    equal: bool = False
    """All agents of a task have the same hyperparameters, instead of those that suit each (`equirl study tune`)."""
    stop_after: int = 3
    """A run ends after so many evaluations in a row at the threshold or above; its last value is carried on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("task", self.tasks, TASKS)
        if self.agents:
            check_names("agent", self.agents, {agent for name in self.tasks for agent in TASKS[name].agents})
        check_counts(self, "n_eval_episodes", "total_timesteps", "stop_after")
        for name in self.tasks:
            least = TASKS[name].eval_freq
            if self.total_timesteps is not None and self.total_timesteps < least:
                raise ValueError(
                    f"total_timesteps must be at least {least}, or {name} is never evaluated; got "
                    f"{self.total_timesteps}"
                )


_Job = tuple[MinigridOptions, TaskName, str, int]


def _stages(options: MinigridOptions) -> list[Stage[_Job]]:
    jobs: list[_Job] = [
        (options, task, agent, seed)
        for task in options.tasks
        for seed in range(options.seeds)
        for agent in TASKS[task].agents
        if agent in (options.agents or TASKS[task].agents)
    ]

    def place(job: _Job) -> tuple[int, int]:
        return options.tasks.index(job[1]), TASKS[job[1]].agents.index(job[2])

    return [Stage(jobs, _run, _file_of, COLUMNS, order=place)]


def _report(options: MinigridOptions) -> Report:
    path = options.out / "study.csv"
    needed = COLUMNS[:-1]
    study = read_study(path, needed, "equirl study minigrid", numbers=needed[2:])
    tasks = {task.environment_id: task for task in TASKS.values()}
    tables, parts, thresholds = [], {}, {}
    for name, rows in study.groupby("environment", sort=False, dropna=False):
        environment = str(name)
        if environment not in tasks:
            raise ValueError(f"{path}: {unknown_name_message('environment', environment, tasks)}")
        task = tasks[environment]
        parts[environment], thresholds[environment] = rows, task.threshold
        heading = f"**{environment}**, {task.algorithm.upper()}, `{task.symmetry}`"
        tables.append(f"{heading}\n\n{summary_table(rows, task.threshold)}")
    figure = draw_learning_curves(parts, thresholds, "success rate")
    return Report("\n\n".join(tables), {"learning_curves.png": figure})


def _task(options: MinigridOptions, name: TaskName) -> Task:
    task = TASKS[name]
    return task if options.total_timesteps is None else replace(task, total_timesteps=options.total_timesteps)


def _settings(options: MinigridOptions, task: Task, agent: str) -> dict[str, Any]:
    method = None if options.equal else agent
    return settings_for(task.algorithm, task.environment_id, task.total_timesteps, method, task.symmetry)


def _file_of(job: _Job) -> Path:
    options, name, agent, seed = job
    task = _task(options, name)
    decisive = (str(task), options.n_eval_episodes, options.stop_after, _settings(options, task, agent))
    return options.run_file(f"{name}-{agent}-seed{seed}", *decisive)


def _run(job: _Job) -> Rows:
    options, name, agent, seed = job
    task = _task(options, name)
    model = task_agent(task, agent, _settings(options, task, agent), seed, options.device)
    callback = task_curve(task, options.n_eval_episodes, options.stop_after, seed)
    about = (task.environment_id, agent, seed)
    return learning_rows(f"{name} {agent} seed {seed}", about, model, task.total_timesteps, callback)


def task_agent(task: Task, agent: str, settings: dict[str, Any], seed: int, device: str = "cpu") -> Any:
    """Return an agent that has learned nothing yet.

    Args:
        task: The task.
        agent: One of its agents.
        settings: Arguments of the algorithm's class, and ``n_envs``.
        seed: Seed of the agent and of its environments.
        device: Torch device.
    """
    how: dict[str, Any] = {"method": agent, "symmetry": task.symmetry}
    if agent == "lambda_equitune":
        how["method_kwargs"] = {"hidden": (64,)}
    environments = _environments(task, settings["n_envs"], seed)
    return make_agent(task.algorithm, environments, settings, seed=seed, device=device, **how)


def task_curve(
    task: Task, n_episodes: int, stop_after: int, seed: int, most_cpu_seconds: float = float("inf")
) -> EvaluateAndStop:
    """Return the callback that evaluates an agent, DQN's greedily, and ends its training once it has learned.

    Args:
        task: The task.
        n_episodes: Episodes of each evaluation.
        stop_after: Evaluations in a row at the threshold after which training ends.
        seed: Seed of the run; the episodes have others.
        most_cpu_seconds: Training also ends after so many seconds of CPU time.
    """
    environments = _environments(task, 10, seed + 1000)

    def measure(model: BaseAlgorithm) -> tuple[float]:
        successes: list[bool] = []

        def note(local: dict[str, Any], _: dict[str, Any]) -> None:
            if local["done"]:
                successes.append(bool(local["info"]["is_success"]))

        evaluate_policy(model, environments, n_episodes, deterministic=task.algorithm == "dqn", callback=note)
        return (sum(successes) / len(successes),)

    return EvaluateAndStop(measure, task.eval_freq, task.threshold, stop_after, most_cpu_seconds)


def _environments(task: Task, n_envs: int, seed: int) -> VecEnv:
    view = view_of(task.algorithm, task.environment_id)
    return make_vec_env(task.environment_id, n_envs, seed=seed, wrapper_class=view)


MINIGRID = Study(_stages, _report)
"""``equirl study minigrid``."""
