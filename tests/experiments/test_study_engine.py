"""The engine that all studies share: options, runs, tables, records, figures."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from stable_baselines3 import DQN

from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.experiments.cost.command import BenchOptions
from equirl.experiments.figures import legend_outside, make_panels, styles_of
from equirl.experiments.nlg.config import CompareConfig
from equirl.experiments.rl.control import ControlOptions
from equirl.experiments.rl.gridworld import GridWorldOptions
from equirl.experiments.rl.minigrid import MinigridOptions
from equirl.experiments.rl.report import agents_to_draw, draw_learning_curves
from equirl.experiments.rl.zero_shot import ZeroShotOptions
from equirl.experiments.scan.config import ScanConfig
from equirl.experiments.study import CommonOptions, Report, Stage, Study, StudyOptions, run_study
from equirl.experiments.tables import Rows, markdown_table

STUDIES = (GridWorldOptions, MinigridOptions, ZeroShotOptions, ControlOptions, ScanConfig)


@pytest.mark.parametrize("options", [*STUDIES, BenchOptions, CompareConfig])
def test_every_command_has_the_same_options(options: type[Any]) -> None:
    types = {field.name: field.type for field in dataclasses.fields(options)}
    common = StudyOptions if options in STUDIES else CommonOptions
    for field in dataclasses.fields(common):
        assert types[field.name] == field.type
    assert not {"n_seeds", "workers", "folder"} & set(types)


@dataclass(frozen=True)
class _Options(StudyOptions):
    seeds: int = 2
    n_jobs: int = 1
    factor: int = 10


_Job = tuple[_Options, int]


def _first_file(job: _Job) -> Path:
    return job[0].run_file(f"first-{job[1]}")


def _second_file(job: _Job) -> Path:
    return job[0].run_file(f"second-{job[1]}", job[0].factor)


def _toy(done: list[str]) -> Study[_Options]:
    def first(job: _Job) -> Rows:
        done.append(f"first {job[1]} with {torch.get_num_threads()} threads")
        _first_file(job).with_suffix(".txt").write_text(str(job[1] + 1))
        return [(job[1],)]

    def second(job: _Job) -> Rows:
        done.append(f"second {job[1]}")
        left = int(_first_file(job).with_suffix(".txt").read_text())
        return [(job[1], job[0].factor * left)]

    def stages(options: _Options) -> list[Stage[_Job]]:
        jobs = [(options, seed) for seed in range(options.seeds)]
        return [
            Stage(jobs, first, _first_file, ("seed",), table=None, leaves=(".txt",)),
            Stage(jobs, second, _second_file, ("seed", "value"), order=lambda job: -job[1]),
        ]

    def report(options: _Options) -> Report:
        table = pd.read_csv(options.out / "study.csv")
        figure, ((axes,),) = make_panels(width=3, height=2)
        axes.plot(table.seed, table.value)
        return Report(markdown_table(table.columns, table.to_numpy()), {"lines.png": figure, "page.html": "<p>"})

    return Study(stages, report)


def test_a_study_goes_from_jobs_to_tables_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done: list[str] = []
    options = _Options(out=tmp_path / "study", csv=tmp_path / "copies/copy.csv", threads=2)
    before = torch.get_num_threads()
    assert run_study(_toy(done), options) == 0
    assert torch.get_num_threads() == before
    assert done == ["first 0 with 2 threads", "first 1 with 2 threads", "second 0", "second 1"]
    assert (tmp_path / "study/study.csv").read_text() == "seed,value\n1,20\n0,10\n"
    assert (tmp_path / "copies/copy.csv").read_text() == "seed,value\n1,20\n0,10\n"
    assert (tmp_path / "study/summary.md").read_text() == "| seed | value |\n|---|---|\n| 1 | 20 |\n| 0 | 10 |\n"
    assert (tmp_path / "study/lines.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "study/record.json").read_text())["config"]["factor"] == 10
    assert "study.csv, record.json, summary.md, lines.png, page.html" in capsys.readouterr().out


def test_a_study_does_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    done: list[str] = []
    options = _Options(out=tmp_path)
    run_study(_toy(done), options)
    done.clear()
    run_study(_toy(done), options)
    assert done == []
    _first_file((options, 1)).with_suffix(".txt").unlink()  # what the first stage left is gone: it is done again
    _second_file((options, 0)).with_suffix(".part").write_text("the state of a training that was stopped")
    run_study(_toy(done), options)
    assert done == ["first 1 with 1 threads"]
    assert not list(tmp_path.rglob("*.part"))
    done.clear()
    run_study(_toy(done), dataclasses.replace(options, factor=3))  # another setting: other runs of the second stage
    assert done == ["second 0", "second 1"]
    assert (tmp_path / "earlier-1/study.csv").read_text() == "seed,value\n1,20\n0,10\n"
    done.clear()
    (tmp_path / "summary.md").unlink()
    run_study(_toy(done), dataclasses.replace(options, report_only=True))
    assert done == []
    assert "| 1 | 6 |" in (tmp_path / "summary.md").read_text()


def test_an_agent_is_evaluated_at_equal_distances_until_it_has_learned() -> None:
    scores = iter([0.2, 0.9, 0.1, 0.9, 0.95, 1.0])
    callback = EvaluateAndStop(lambda agent: (next(scores), 7.0), eval_freq=10, threshold=0.9, stop_after=2)
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=1000, device="cpu")
    model.learn(100, callback=callback)
    assert model.num_timesteps == 50
    assert [e.timesteps for e in callback.evaluations] == [10, 20, 30, 40, 50]
    assert [e.scores for e in callback.evaluations][-1] == (0.95, 7.0)
    assert all(a.seconds <= b.seconds for a, b in zip(callback.evaluations, callback.evaluations[1:], strict=False))


def _study(steps_of: dict[str, int]) -> pd.DataFrame:
    rows = [
        (agent, seed, t, float(t >= steps), t / 10)
        for agent, steps in steps_of.items()
        for seed in (0, 1)
        for t in range(100, 1100, 100)
    ]
    return pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "success_rate", "train_seconds"])


def test_a_figure_shows_few_agents_and_its_legend_covers_no_data() -> None:
    methods = {"c4/equitune": 400, "d4/equitune": 300, "c4/canonical": 100, "d4/canonical": 200, "d4/equizero": 500}
    study = _study({"plain": 900, **methods, "d4/augmentation": 600, "d4/lambda_equitune": 350})
    chosen = agents_to_draw(study, 0.9, 5)
    assert chosen == ["plain", "d4/equitune", "c4/canonical", "d4/augmentation", "d4/lambda_equitune"]
    figure = draw_learning_curves({"grid": study[study.agent.isin(chosen)]}, {"grid": 0.9}, "success", 500)
    figure.draw_without_rendering()
    (axes,), (legend,) = figure.axes, figure.legends
    assert axes.get_xlim() == (0, 500)
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert len(legend.get_texts()) == 5
    assert not legend.get_window_extent().overlaps(axes.get_window_extent())
    assert "plain: 900" in [text.get_text() for text in legend.get_texts()]


@pytest.mark.parametrize(
    ("threshold", "measure", "shown"),
    [
        (0.9, "success rate of 20 episodes", "90.0%"),
        (0.9, "mean return of 20 episodes", "0.9"),
        (-200.0, "mean return of 20 episodes", "-200"),
        (9100.0, "mean return of 20 episodes", "9100"),
    ],
)
def test_a_return_that_counts_as_learned_is_no_share(threshold: float, measure: str, shown: str) -> None:
    (legend,) = draw_learning_curves({"world": _study({"plain": 900})}, {"world": threshold}, measure).legends
    assert legend.get_title().get_text() == f"agent: environment steps to {shown} (dashed), median"


def test_styles_differ_in_colour_line_and_marker() -> None:
    styles = styles_of("abcdefgh")
    for part in ("color", "linestyle", "marker"):
        assert len({str(style[part]) for style in styles.values()}) == 8
    figure, ((axes,),) = make_panels(width=3, height=2)
    legend_outside(figure)
    assert not figure.legends  # nothing to name
    axes.plot(np.arange(3), label="line")
    legend_outside(figure)
    assert len(figure.legends) == 1


def test_callables_of_a_study_are_optional(tmp_path: Path) -> None:
    checked: list[Callable[..., Any] | None] = []
    study = dataclasses.replace(_toy([]), check=lambda options: checked.append(options.run_file))
    run_study(study, _Options(out=tmp_path))
    run_study(study, _Options(out=tmp_path, report_only=True))
    assert len(checked) == 1  # only before runs
