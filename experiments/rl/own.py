"""``equirl study own``: methods compared on one environment, of the user's own or any other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equirl.agents.cli.comparison import ComparisonOptions
from equirl.agents.cli.option_checks import check_counts, check_evaluations
from equirl.agents.cli.zoo import folder_name, named_environment
from equirl.agents.learning_curve import EvaluationPlan, check_agents, learning_curve, level
from equirl.experiments.rl.report import draw_learning_curves, draw_performance_profile, score_table, summary_table
from equirl.experiments.study import Report, Stage, Study, StudyOptions
from equirl.experiments.tables import Rows, read_study

__all__ = ["COLUMNS", "OWN", "OwnOptions"]

COLUMNS = ("agent", "seed", "timesteps", "episodes", "success_rate", "mean_return", "train_seconds")

_OUT = Path("logs/study/own")


@dataclass(frozen=True, kw_only=True)
class OwnOptions(ComparisonOptions, StudyOptions):
    """Methods compared on one environment, your own or any other, with equal hyperparameters."""

    steps: int = 20_000
    """Environment steps of each run."""
    eval_freq: int | None = None
    """Environment steps between two evaluations; by default a twentieth of the run."""
    n_eval_episodes: int = 20
    """Episodes of each evaluation; PPO, A2C, TRPO and RecurrentPPO sample discrete actions, the others act greedily."""
    threshold: float | None = None
    """What counts as learned: a success rate (0.95), or a mean return where there is none (the environment's own)."""
    stop_after: int = 3
    """A run ends after so many evaluations in a row at the threshold or above; its last value is carried on.
    0: never."""
    out: Path = _OUT
    """Folder of the results; by default one of the environment's name in there."""

    def __post_init__(self) -> None:
        ComparisonOptions.__post_init__(self)
        StudyOptions.__post_init__(self)
        check_counts(self, "steps", "eval_freq", "n_eval_episodes")
        check_counts(self, "stop_after", "self_play", least=0)
        check_evaluations(self.eval_freq or 0, self.steps, "steps")
        if self.out == _OUT:
            object.__setattr__(self, "out", _OUT / folder_name(self.env.rpartition(":")[2]))

    @property
    def plan(self) -> EvaluationPlan:
        """Steps and evaluations of each run."""
        every = self.eval_freq or max(1, self.steps // 20)
        return EvaluationPlan(self.steps, every, self.n_eval_episodes, self.threshold, self.stop_after)


_Job = tuple[OwnOptions, str, int]


def _stages(options: OwnOptions) -> list[Stage[_Job]]:
    jobs = [(options, method, seed) for seed in range(options.seeds) for method in options.methods]
    return [Stage(jobs, _run, _file_of, COLUMNS, order=lambda job: (options.methods.index(job[1]), job[2]))]


def _file_of(job: _Job) -> Path:
    options, method, seed = job
    return options.run_file(f"{method}-seed{seed}", *options.decisive(options.out), str(options.plan))


def _run(job: _Job) -> Rows:
    options, method, seed = job
    points = learning_curve(options.comparison(options.out), method, seed, options.plan, options.device)
    *_, (steps, _, success, mean, seconds) = points
    score = f"mean return {mean:.3f}" if success is None else f"success {success:.3f}"
    print(f"{method} seed {seed}: {score} after {steps} steps, {seconds} s", flush=True)
    shown = [("" if p.success_rate is None else round(p.success_rate, 4), round(p.mean_return, 4)) for p in points]
    return [(method, seed, *p[:2], *scores, p.seconds) for p, scores in zip(points, shown, strict=True)]


def _report(options: OwnOptions) -> Report:
    study = read_study(options.out / "study.csv", COLUMNS, "equirl study own", numbers=COLUMNS[1:])
    environment = named_environment(options.env, options.gym_packages)
    has_success = bool(study.success_rate.notna().all())
    measure = "success rate" if has_success else "mean return"
    if not has_success:
        study["success_rate"] = study.mean_return
    threshold = level(environment, has_success, options.threshold)
    tables = [] if threshold is None else [summary_table(study, threshold, f"{measure} {threshold:g}")]
    if options.self_play and threshold is not None:
        games = summary_table(study.assign(timesteps=study.episodes), threshold, f"{measure} {threshold:g}")
        tables.append(games.replace("steps, median", "games, median"))
    tables.append(score_table(study, options.steps, measure))
    title = f"{environment}, {options.algo.upper()}, {options.symmetry}"
    what = f"{measure} of {options.n_eval_episodes} episodes"
    curves = draw_learning_curves({title: study}, {title: threshold}, what, options.steps)
    profile = draw_performance_profile(study, options.steps, measure)
    files: dict[str, Any] = {"learning_curves.png": curves, "performance_profile.png": profile}
    return Report("\n\n".join([f"**{title}**: {what}", *tables]), files)


def _prepare(options: OwnOptions) -> None:
    options.find_symmetry(options.out)
    check_agents(options.comparison(options.out), options.methods, options.plan)


OWN = Study(_stages, _report, _prepare)
"""``equirl study own``."""
