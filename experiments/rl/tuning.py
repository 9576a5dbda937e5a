"""``equirl study tune``: hyperparameters for each agent of a task, searched with the same budget, by Optuna."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from equirl.agents.cli.option_checks import check_counts, check_evaluations, check_positive, check_shares
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.named_agents import parse_agent
from equirl.agents.our_hyperparameters import settings_for, with_exploration
from equirl.experiments.rl.gridworld import AGENTS, GridWorldOptions, grid_agent, grid_curve
from equirl.experiments.rl.minigrid import TASKS, task_agent, task_curve
from equirl.experiments.study import Report, Stage, Study, StudyOptions
from equirl.experiments.tables import Rows, markdown_table, read_rows, read_study, write_rows
from equirl.names import check_names

__all__ = ["SPACES", "TUNE", "TuneOptions", "columns_of", "winner"]

Space = Mapping[str, tuple[int, ...]]

_GRIDWORLD: Final = "gridworld"
_DQN = {"gradient_steps": (2, 4, 8, 16), "batch_size": (16, 32, 64, 128, 256)}
_PPO: Space = {
    "n_envs": (8, 16, 32),
    "n_steps": (64, 128, 256),
    "batch_size": (64, 128, 256, 512),
    "n_epochs": (2, 4, 8),
}

SPACES: Mapping[str, Space] = {
    _GRIDWORLD: {"n_envs": (32, 64, 128), **_DQN, "exploration_steps": (1_000, 2_500, 5_000, 10_000)},
    "empty-room": {"n_envs": (4, 8, 16, 32), **_DQN, "exploration_steps": (1_000, 2_500, 5_000, 10_000)},
    "four-rooms": _PPO,
    "door-key": _PPO,
}
"""Choices of the search, by task; beside them it looks for the learning rate."""

RATES = (3e-4, 4e-3)  # bounds of the learning rate, on a logarithmic scale

_FOUND = ("timesteps", "success_rate", "cpu_seconds", "cost")
_SEEDS = 10_000  # seeds of the search begin here: other ones than those of studies


def columns_of(task: str) -> tuple[str, ...]:
    """Return the columns of a task's ``study.csv``."""
    return ("agent", "trial", *SPACES[task], "learning_rate", "seed", *_FOUND)


@dataclass(frozen=True)
class TuneOptions(StudyOptions):
    """Search for each agent the hyperparameters with which it learns a task in the fewest CPU seconds."""

    out: Path = Path("logs/study/tune")
    """Folder of the results."""
    task: Literal["gridworld", "empty-room", "four-rooms", "door-key"] = "gridworld"
    """The task of `equirl study rl`, or one of those of `equirl study minigrid`."""
    agents: tuple[str, ...] = ()
    """Agents as that study names them; by default all of the task."""
    size: int | None = None
    """Rows and columns of the gridworld; by default 7."""
    total_timesteps: int | None = None
    """Environment steps after which a run ends in any case; by default the task's own, as are the next two."""
    eval_freq: int | None = None
    """Environment steps between two evaluations."""
    threshold: float | None = None
    """Success rate that counts as learned."""
    n_eval_episodes: int = 100
    """Episodes of each evaluation of a task of MiniGrid."""
    seeds: int = 2
    """Seeds of each trial."""
    trials: int = 30
    """Settings that Optuna tries for each agent."""
    finalists: int = 5
    """The best trials, which are then run on further seeds; the best of these wins."""
    final_seeds: int = 6
    """Further seeds of each finalist."""
    most_cpu_seconds: float = 10.0
    """CPU seconds after which a run ends in any case; it ends earlier if it takes twice as long as the best trial.
    A run that has not learned costs three times this number, less what its success rate saves."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "total_timesteps", "eval_freq", "n_eval_episodes", "trials", "finalists", "final_seeds")
        check_positive(self, "most_cpu_seconds")
        if self.threshold is not None:
            check_shares(self, "threshold")
        if self.task != _GRIDWORLD and self.size is not None:
            raise ValueError(f"size is that of the gridworld; {self.task} has its own")
        world = _world(self)
        if self.agents and self.task != _GRIDWORLD:
            check_names("agent", self.agents, TASKS[self.task].agents)
        check_evaluations(world.eval_freq, world.total_timesteps)


def _world(options: TuneOptions) -> Any:
    """Return the options of the study of the grid, or the task: both say how long runs are, and when they end."""
    given = ("agents", "size", "total_timesteps", "eval_freq", "threshold")
    changes = {name: getattr(options, name) for name in given if getattr(options, name)}
    if options.task == _GRIDWORLD:
        return GridWorldOptions(device=options.device, **changes)
    return replace(TASKS[options.task], **changes)


_Job = tuple[TuneOptions, str]


def _stages(options: TuneOptions) -> list[Stage[_Job]]:
    agents = options.agents or (AGENTS if options.task == _GRIDWORLD else TASKS[options.task].agents)
    names = [parse_agent(agent).name if options.task == _GRIDWORLD else agent for agent in agents]
    return [Stage([(options, name) for name in names], _search, _file_of, columns_of(options.task))]


def _file_of(job: _Job) -> Path:
    options, agent = job
    world = str(_world(replace(options, agents=())))
    of_effort = ("n_eval_episodes", "seeds", "trials", "finalists", "final_seeds", "most_cpu_seconds")
    effort = [getattr(options, name) for name in of_effort]
    return options.run_file(f"tune-{agent}", world, effort, str(SPACES[options.task]), RATES)


def _search(job: _Job) -> Rows:
    """Return the runs of all trials of an agent, and those of its finalists; a search that was stopped goes on.

    Optuna proposes the same settings again where it is told the same costs, so that runs that are done are looked up.
    """
    import optuna  # slow, so only when it is needed

    options, agent = job
    space, columns = SPACES[options.task], columns_of(options.task)
    unfinished = _file_of(job).with_suffix(".unfinished")
    rows: list[Sequence[Any]] = [*read_rows(unfinished, columns)] if unfinished.exists() else []

    def cost(number: int, settings: dict[str, Any], seeds: range, patience: float) -> float:
        costs = []
        for seed in seeds:
            key = [str(value) for value in (agent, number, *settings.values(), seed)]
            row = next((row for row in rows if row[: len(key)] == key), None)
            if row is None:
                row = [*key, *_learn(options, agent, settings, seed, patience)]
                rows.append(row)
                write_rows(unfinished, columns, rows)
            costs.append(float(row[-1]))
            if float(row[-3]) < _world(options).threshold:
                break  # it is out of the running
        return max(costs) if len(costs) < len(seeds) else float(sum(costs)) / len(costs)

    def objective(trial: optuna.Trial) -> float:
        settings: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in space.items()}
        settings["learning_rate"] = round(trial.suggest_float("learning_rate", *RATES, log=True), 6)
        trial.set_user_attr("settings", settings)
        done = trial.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best = min((float(each.value or 0) for each in done), default=options.most_cpu_seconds)
        return cost(trial.number, settings, range(_SEEDS, _SEEDS + options.seeds), max(2.0, 2 * best))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=10))
    study.optimize(objective, n_trials=options.trials)
    further = range(_SEEDS + options.seeds, _SEEDS + options.seeds + options.final_seeds)
    for trial in sorted(study.trials, key=lambda trial: float(trial.value or 0))[: options.finalists]:
        cost(trial.number, trial.user_attrs["settings"], further, 1e9)
    print(f"{agent}: best of {options.trials} trials {study.best_value:.1f} CPU s, {study.best_params}", flush=True)
    unfinished.unlink(missing_ok=True)
    return rows


def _learn(
    options: TuneOptions, name: str, settings: dict[str, Any], seed: int, patience: float
) -> tuple[int, float, float, float]:
    """Return steps, success rate, CPU seconds and cost at the first evaluation at the threshold, or at the last one."""
    world, most = _world(options), min(options.most_cpu_seconds, patience)
    agent, callback = _learner(options, world, name, settings, seed, most)
    agent.learn(world.total_timesteps, callback=callback)
    last, success = callback.evaluations[-1], callback.evaluations[-1].scores[0]
    cost = last.cpu_seconds if success >= world.threshold else options.most_cpu_seconds * (3 - success)
    return last.timesteps, round(success, 4), last.cpu_seconds, round(cost, 2)


def _learner(
    options: TuneOptions, world: Any, name: str, settings: dict[str, Any], seed: int, most: float
) -> tuple[Any, EvaluateAndStop]:
    if options.task == _GRIDWORLD:
        spec = parse_agent(name)
        spec = replace(spec, dqn_kwargs=spec.dqn_kwargs | settings)
        return grid_agent(world, spec, seed), grid_curve(world, 1, most)
    fixed = settings_for(world.algorithm, world.environment_id, world.total_timesteps)
    settings = with_exploration(fixed | settings, world.total_timesteps)
    return task_agent(world, name, settings, seed, options.device), task_curve(
        world, options.n_eval_episodes, 1, seed, most
    )


def _report(options: TuneOptions) -> Report:
    names, threshold = columns_of(options.task), _world(options).threshold
    study = read_study(options.out / "study.csv", names, "equirl study tune", numbers=names[1:])
    searched = (*SPACES[options.task], "learning_rate")
    rows = []
    for agent, runs in study.groupby("agent", sort=False):
        best = winner(runs)
        learned = f"{(best.success_rate >= threshold).sum()} of {len(best)}"
        settings = [f"{best[name].iloc[0]:g}" for name in searched]
        rows.append((agent, runs.trial.nunique(), *settings, learned, f"{best.cost.median():.2f}"))
    heads = ("agent", "trials", *searched, f"runs at {threshold:.1%}", "CPU s, median")
    return Report(markdown_table(heads, rows))


def winner(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the trial with the least mean cost among those with the most seeds."""
    seeds = runs.groupby("trial").seed.nunique()
    finalists = runs[runs.trial.isin(seeds.index[seeds == seeds.max()])]
    return finalists[finalists.trial == finalists.groupby("trial").cost.mean().idxmin()]


TUNE = Study(_stages, _report)
"""``equirl study tune``."""
