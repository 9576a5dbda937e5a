"""``equirl study control``: CartPole and Acrobot agents, trained in full and for a third of that, then symmetrized."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import gymnasium as gym
import numpy as np
import pandas as pd
import tyro
from matplotlib.figure import Figure
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents.cli.option_checks import check_counts
from equirl.agents.comparison import make_agent
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.interquartile import interquartile_interval, interquartile_mean
from equirl.agents.intervals import interval_text
from equirl.agents.our_hyperparameters import planned_timesteps, settings_for
from equirl.experiments.figures import COLORS, legend_outside, make_panels, name_rows
from equirl.experiments.rl.zero_shot import VARIANTS, symmetrized
from equirl.experiments.study import Report, Stage, Study, StudyOptions
from equirl.experiments.tables import Rows, markdown_table, read_study
from equirl.names import check_names

__all__ = ["COLUMNS", "CONTROL", "ControlOptions"]

COLUMNS = ("environment", "stage", "variant", "seed", "timesteps", "mean_return", "std_return", "n_episodes")

VariantName = Literal[
    "plain",
    "equitune",
    "equizero, max_value",
    "equizero, target_disagreement",
    "equizero, bellman_residual",
    "equizero, novelty",
    "λ-equitune, inputs",
]

EnvironmentName = Literal["CartPole-v1", "Acrobot-v1"]

_SYMMETRIES: dict[EnvironmentName, str] = {"CartPole-v1": "cartpole-z2", "Acrobot-v1": "acrobot-z2"}
_RETURNS = {"CartPole-v1": (0, 500), "Acrobot-v1": (-500, 0)}  # the least and the greatest


@dataclass(frozen=True)
class ControlOptions(StudyOptions):
    """CartPole and Acrobot agents, partly and fully trained, then symmetrized."""

    out: Path = Path("logs/study/control")
    """Folder of the results."""
    environments: tuple[EnvironmentName, ...] = tuple(_SYMMETRIES)
    """Gymnasium ids."""
    # The names have commas in them: the help is to list them once, quoted.
    variants: Annotated[tuple[VariantName, ...], tyro.conf.arg(metavar="NAME ...")] = get_args(VariantName)
    """What is compared."""
    n_episodes: int = 100
    """Evaluation episodes of each variant."""
    eval_freq: int = 1_000
    """Environment steps between two evaluations (20 episodes) that look for the end of training."""
    total_timesteps: int | None = None
    """Longest training, instead of the task's own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("task", self.environments, _SYMMETRIES)
        check_names("variant", self.variants, get_args(VariantName))
        check_counts(self, "n_episodes", "eval_freq", "total_timesteps")


_Job = tuple[ControlOptions, EnvironmentName, int]


def _stages(options: ControlOptions) -> list[Stage[_Job]]:
    jobs = [(options, environment, seed) for environment in options.environments for seed in range(options.seeds)]
    return [Stage(jobs, _run, _file_of, COLUMNS)]


def _plan(options: ControlOptions, environment: EnvironmentName) -> tuple[dict[str, Any], int, float]:
    """Return the hyperparameters, the longest training, and the mean return that Gymnasium counts as learned."""
    total_timesteps = options.total_timesteps or planned_timesteps("dqn", environment)
    threshold = float(gym.spec(environment).reward_threshold or 0)
    return settings_for("dqn", environment, total_timesteps), total_timesteps, threshold


def _file_of(job: _Job) -> Path:
    options, environment, seed = job
    variants = str({name: VARIANTS[name] for name in options.variants})
    decisive = (_SYMMETRIES[environment], *_plan(options, environment), options.n_episodes, options.eval_freq)
    return options.run_file(f"{environment}-seed{seed}", *decisive, variants)


def _run(job: _Job) -> Rows:
    options, environment, seed = job
    full = _train(options, environment, seed)
    third = _train(options, environment, seed, full.num_timesteps // 3)
    rows: list[tuple[Any, ...]] = []
    for stage, model in (("a third", third), ("full", full)):
        for name in options.variants:
            agent = symmetrized(model, _SYMMETRIES[environment], VARIANTS[name])
            evaluation = make_vec_env(environment, 10, seed=seed + 1000)
            returns, _ = evaluate_policy(agent, evaluation, options.n_episodes, return_episode_rewards=True)
            mean, spread = round(float(np.mean(returns)), 2), round(float(np.std(returns)), 2)
            rows.append((environment, stage, name, seed, model.num_timesteps, mean, spread, options.n_episodes))
            print(f"{environment} {stage} {name} seed {seed}: {mean}, standard deviation {spread}", flush=True)
    return rows


def _train(options: ControlOptions, environment: EnvironmentName, seed: int, until: int | None = None) -> DQN:
    """Return an agent trained for so many environment steps, or else until it has learned."""
    settings, total_timesteps, threshold = _plan(options, environment)
    model: DQN = make_agent("dqn", gym.make(environment), settings, seed=seed, device=options.device)
    # The same schedule for both: a third is a run that was stopped early, not a shorter plan.
    if until is not None:
        return model.learn(total_timesteps, callback=lambda *_: model.num_timesteps < until)
    environments = make_vec_env(environment, 10, seed=10_000)

    def measure(agent: DQN) -> tuple[float]:
        return (float(np.mean(evaluate_policy(agent, environments, n_eval_episodes=20)[0])),)

    callback = EvaluateAndStop(measure, options.eval_freq, threshold, stop_after=1)
    return model.learn(total_timesteps, callback=callback)


def _report(options: ControlOptions) -> Report:
    needed = (*COLUMNS[:4], "mean_return")
    study = read_study(options.out / "study.csv", needed, "equirl study control", numbers=needed[4:])
    rows, estimates = [], {}
    for (environment, stage, variant), runs in study.groupby(["environment", "stage", "variant"], sort=False):
        scores = runs.mean_return.to_numpy()
        middle, interval = interquartile_mean(scores), interquartile_interval(scores, _RETURNS.get(environment))
        estimates[environment, stage, variant] = middle, *interval
        each = ", ".join(f"{value:.0f}" for value in runs.mean_return)
        rows.append((environment, stage, variant, f"{middle:.1f}", interval_text(interval, ".1f"), each))
    heads = ("environment", "trained for", "variant", "return, IQM of seeds", "95 % interval", "each seed")
    return Report(markdown_table(heads, rows), {"returns.png": _draw(study, estimates)})


def _draw(study: pd.DataFrame, estimates: Mapping[tuple[str, str, str], Any]) -> Figure:
    environments = list(study.environment.unique())
    variants, stages = list(study.variant.unique()), list(study.stage.unique())
    figure, (panels,) = make_panels(
        1, len(environments), width=2.4 + 3.6 * len(environments), height=0.36 * len(variants) + 1.6, share_y=True
    )
    rows = np.arange(len(variants))
    for axes, environment in zip(panels, environments, strict=True):
        for k, stage in enumerate(stages):
            lacking = (np.nan,) * 3
            bounds = np.array([estimates.get((environment, stage, variant), lacking) for variant in variants])
            y, spread = rows + 0.25 * (k - (len(stages) - 1) / 2), np.abs(bounds[:, 1:] - bounds[:, :1]).T
            label, mark, color = f"trained: {stage}", "os^D"[k % 4], COLORS[(1, 2, 4, 3)[k % 4]]
            axes.errorbar(bounds[:, 0], y, xerr=spread, fmt=mark, color=color, markersize=4, capsize=2, label=label)
        axes.set_xlabel("mean return of an episode")
        axes.set_title(f"{environment}: IQM of {study.seed.nunique()} seeds, 95 % interval", fontsize=9)
        axes.grid(alpha=0.3)
        name_rows(axes, variants)
    legend_outside(figure)
    return figure


CONTROL = Study(_stages, _report)
"""``equirl study control``."""
