"""``equirl study tune``: hyperparameters of DQN for each agent, searched with the same budget, by Optuna."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from equirl.agents.cli.option_checks import check_counts, check_positive
from equirl.agents.named_agents import parse_agent
from equirl.experiments.rl.gridworld import GridOptions, grid_agent, grid_curve
from equirl.experiments.study import Report, Stage, Study
from equirl.experiments.tables import Rows, markdown_table, read_study

__all__ = ["COLUMNS", "SPACE", "TUNE", "TuneOptions", "winner"]

SPACE: dict[str, tuple[int, ...]] = {
    "n_envs": (32, 64, 128),
    "gradient_steps": (2, 4, 8, 16),
    "batch_size": (16, 32, 64, 128, 256),
    "exploration_steps": (1_000, 2_500, 5_000, 10_000),
}
"""Choices of the search."""

RATES = (3e-4, 4e-3)  # bounds of the learning rate, on a logarithmic scale

COLUMNS = ("agent", "trial", *SPACE, "learning_rate", "seed", "timesteps", "success_rate", "cpu_seconds", "cost")

_SEEDS = 10_000  # seeds of the search begin here: other ones than those of studies


@dataclass(frozen=True)
class TuneOptions(GridOptions):
    """Search for each agent the hyperparameters with which it learns the GridWorld in the fewest CPU seconds."""

    out: Path = Path("logs/study/tune")
    """Folder of the results."""
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
        check_counts(self, "trials", "finalists", "final_seeds")
        check_positive(self, "most_cpu_seconds")


_Job = tuple[TuneOptions, str]


def _stages(options: TuneOptions) -> list[Stage[_Job]]:
    return [Stage([(options, parse_agent(agent).name) for agent in options.agents], _search, _file_of, COLUMNS)]


def _file_of(job: _Job) -> Path:
    options, agent = job
    decisive = (options.world, options.total_timesteps, options.eval_freq, options.threshold, options.seeds)
    effort = (options.trials, options.finalists, options.final_seeds, options.most_cpu_seconds)
    return options.run_file(f"tune-{agent}", decisive, effort, str(SPACE), RATES)


def _search(job: _Job) -> Rows:
    """Return the runs of all trials of an agent, and those of its finalists."""
    import optuna  # slow, so only when it is needed

    options, agent = job
    rows: list[tuple[Any, ...]] = []

    def cost(number: int, settings: dict[str, Any], seeds: range, patience: float) -> float:
        costs = []
        for seed in seeds:
            *found, spent = _learn(options, agent, settings, seed, patience)
            rows.append((agent, number, *settings.values(), seed, *found, spent))
            costs.append(spent)
            if found[1] < options.threshold:
                break  # it is out of the running
        return max(costs) if len(costs) < len(seeds) else float(sum(costs)) / len(costs)

    def objective(trial: optuna.Trial) -> float:
        settings: dict[str, Any] = {name: trial.suggest_categorical(name, values) for name, values in SPACE.items()}
        settings["learning_rate"] = round(trial.suggest_float("learning_rate", *RATES, log=True), 6)
        done = trial.study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best = min((float(each.value or 0) for each in done), default=options.most_cpu_seconds)
        return cost(trial.number, settings, range(_SEEDS, _SEEDS + options.seeds), max(2.0, 2 * best))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0, n_startup_trials=10))
    study.optimize(objective, n_trials=options.trials)
    further = range(_SEEDS + options.seeds, _SEEDS + options.seeds + options.final_seeds)
    for trial in sorted(study.trials, key=lambda trial: float(trial.value or 0))[: options.finalists]:
        rate = round(trial.params["learning_rate"], 6)
        cost(trial.number, {**{name: trial.params[name] for name in SPACE}, "learning_rate": rate}, further, 1e9)
    print(f"{agent}: best of {options.trials} trials {study.best_value:.1f} CPU s, {study.best_params}", flush=True)
    return rows


def _learn(
    options: TuneOptions, name: str, settings: dict[str, Any], seed: int, patience: float
) -> tuple[int, float, float, float]:
    """Return steps, success rate, CPU seconds and cost at the first evaluation at the threshold, or at the last one."""
    spec = parse_agent(name)
    spec = replace(spec, dqn_kwargs=spec.dqn_kwargs | settings)
    callback = grid_curve(options, 1, min(options.most_cpu_seconds, patience))
    grid_agent(options, spec, seed).learn(options.total_timesteps, callback=callback)
    last = callback.evaluations[-1]
    success = last.scores[0]
    cost = last.cpu_seconds if success >= options.threshold else options.most_cpu_seconds * (3 - success)
    return last.timesteps, round(success, 4), last.cpu_seconds, round(cost, 2)


def _report(options: TuneOptions) -> Report:
    study = read_study(options.out / "study.csv", COLUMNS, "equirl study tune", numbers=COLUMNS[1:])
    rows = []
    for agent, runs in study.groupby("agent", sort=False):
        best = winner(runs)
        learned = f"{(best.success_rate >= options.threshold).sum()} of {len(best)}"
        settings = [f"{best[name].iloc[0]:g}" for name in (*SPACE, "learning_rate")]
        rows.append((agent, runs.trial.nunique(), *settings, learned, f"{best.cost.median():.2f}"))
    heads = ("agent", "trials", *SPACE, "learning_rate", f"runs at {options.threshold:.1%}", "CPU s, median")
    return Report(markdown_table(heads, rows))


def winner(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the trial with the least mean cost among those with the most seeds."""
    seeds = runs.groupby("trial").seed.nunique()
    finalists = runs[runs.trial.isin(seeds.index[seeds == seeds.max()])]
    return finalists[finalists.trial == finalists.groupby("trial").cost.mean().idxmin()]


TUNE = Study(_stages, _report)
"""``equirl study tune``."""
