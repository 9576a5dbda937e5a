"""What the commands of experiments/ write and where, and what they say about mistakes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from equirl.agents.cli import main
from equirl.agents.cli.option_checks import check_device, check_output_file, check_output_folder
from equirl.agents.cli.subcommands import run_command
from equirl.envs.gridworld_states import GridWorldStates
from equirl.experiments.cost.command import BenchOptions
from equirl.experiments.nlg.config import CompareConfig
from equirl.experiments.records import write_tables
from equirl.experiments.rl.control import ControlOptions
from equirl.experiments.rl.gridworld import GridWorldOptions, parse_agent
from equirl.experiments.rl.minigrid import MinigridOptions
from equirl.experiments.rl.report import draw_learning_curves, score_table
from equirl.experiments.rl.zero_shot import ZeroShotOptions
from equirl.experiments.runs import run_missing
from equirl.experiments.scan.config import ScanConfig
from equirl.experiments.tables import read_rows, write_rows
from equirl.experiments.vision.config import FinetuneConfig, ZeroShotConfig
from equirl.files import load_weights
from equirl.optional import own_function
from equirl.seeded import seeded
from equirl.testing import evaluation_mode


@dataclass(frozen=True)
class _Settings:
    size: int = 3
    out: Path = Path("nowhere")


def test_no_command_writes_to_the_committed_results_by_default() -> None:
    configs = (GridWorldOptions, MinigridOptions, ZeroShotOptions, ControlOptions, BenchOptions)
    for config in (*configs, ScanConfig, CompareConfig, ZeroShotConfig, FinetuneConfig):
        assert config().out.parts[0] == "logs", config


def test_a_study_in_a_clone_leaves_the_committed_figures_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    committed = tmp_path / "experiments/results/gridworld_7x7/study.csv"
    committed.parent.mkdir(parents=True)
    committed.write_text("five seeds, five days\n")
    small = ["--seeds", "1", "--agents", "plain", "--size", "3", "--eval-freq", "100", "--n-jobs", "1"]
    assert main(["study", "rl", *small, "--total-timesteps", "200"]) == 0
    out = tmp_path / "logs/study/rl"
    assert committed.read_text() == "five seeds, five days\n"
    first = (out / "study.csv").read_text()
    assert main(["study", "rl", *small, "--total-timesteps", "200"]) == 0  # the same again: nothing to keep
    assert not list(out.glob("earlier-*"))
    assert main(["study", "rl", *small, "--total-timesteps", "100"]) == 0
    assert (out / "earlier-1/study.csv").read_text() == first
    assert json.loads((out / "earlier-1/record.json").read_text())["config"]["total_timesteps"] == 200
    assert "they are kept in logs/study/rl/earlier-1" in capfd.readouterr().out
    assert main(["study", "rl", "--report-only"]) == 0
    assert len(pd.read_csv(out / "study.csv")) == 1


def test_more_rows_replace_a_table_and_fewer_do_not(tmp_path: Path) -> None:
    def write(*rows: tuple[object, ...]) -> None:
        write_tables(tmp_path, {"study.csv": (("a", "b"), rows)}, _Settings())

    (tmp_path / "own.txt").write_text("not of a study")
    write((1, 0.5))
    write((1, 0.5), (2, "x,y"))
    assert not list(tmp_path.glob("earlier-*"))
    write((2, "x,y"))
    assert (tmp_path / "earlier-1/study.csv").read_text() == 'a,b\n1,0.5\n2,"x,y"\n'
    assert (tmp_path / "own.txt").exists()
    write((3, None))
    assert (tmp_path / "earlier-2").is_dir()


def test_places_are_checked_and_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check_output_folder(tmp_path / "a/b")
    check_output_file(tmp_path / "a/b.csv", "--csv")
    check_output_file(None, "--csv")
    with pytest.raises(ValueError, match=r"--out .*file/x cannot be written: .*file is a file"):
        check_output_folder(tmp_path / "file/x")
    with pytest.raises(ValueError, match=r"--csv .* is a folder; name a file"):
        check_output_file(tmp_path, "--csv")
    with pytest.raises(ValueError, match="cannot be written"):
        check_output_folder(tmp_path / ("x" * 5000))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_bench_keeps_figures_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = "agent,seed,timesteps,success_rate,train_seconds,cpu_seconds\nplain,0,100,0.99,1,1\n"
    for folder in ("experiments/results/gridworld_7x7", "logs/study/rl"):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "study.csv").write_text(rows)
        rows = rows.replace(",1,1\n", ",2,1\n")
    command = ["bench", "--sections", "learning", "--device", "cpu"]
    assert main(command) == 0
    assert pd.read_csv("logs/bench/bench.csv").seconds.tolist() == [2.0]  # the user's own study, not the committed one
    assert main(command) == 0
    assert not list(Path("logs/bench").glob("earlier-*"))
    Path("logs/study/rl/study.csv").write_text(rows.replace(",2,1\n", ",4,1\n"))
    assert main(command) == 0
    assert pd.read_csv("logs/bench/bench.csv").seconds.tolist() == [4.0]
    assert Path("logs/bench/earlier-1/bench.csv").exists()


MISTAKES = [
    ("study rl --seeds 0", "seeds must be a whole number from 1; got 0"),
    ("study rl --seeds -3", "got -3"),
    ("study rl --agents", "no agent is named"),
    ("study rl --agents plain plain", "agent 'plain' is there twice"),
    ("study rl --agents plian", "agent 'plian' is not of the form"),
    ("study rl --agents cartpole-z2/equitune", "agent 'cartpole-z2/equitune' cannot be made"),
    ("study rl --agents plain+batch_size=inf", "batch_size must be a positive whole number"),
    ("study rl --agents plain+learning_rate=nan", "learning_rate must be a positive number"),
    ("study rl --agents plain+batch_size=[1", "no value of YAML"),
    ("study rl --agents grid-d4/augmentation+hidden=3", "setting of augmentation: 'hidden' is unknown"),
    ("study rl --threshold nan", "threshold must be a share above 0 to 1; got nan"),
    ("study rl --size 1", "size must be a whole number from 2; got 1"),
    ("study rl --network cnn --agents sbx+n_envs=8", "leave one of them out"),
    ("study rl --eval-freq 100000", "eval_freq 100000 is above total_timesteps 60000"),
    ("study rl --out FILE", "is a file, not a folder"),
    ("study rl --out FILE/x", "is a file, not a folder"),
    ("study rl --report-only", "logs/study/rl/study.csv is not there"),
    ("study rl --report-only --out DAMAGED", "DAMAGED/study.csv is no CSV that can be read"),
    ("study rl --report-only --out OTHER", "OTHER/study.csv has no column agent"),
    ("study rl --report-only --out WORDS", "'x' in the column success_rate is no number"),
    ("study rl --report-only --out JUNK", "'nan' in the column seed is no number"),
    ("study rl --report-only --out RECORD", "RECORD/record.json is no record of a study"),
    ("study rl --cluster here", "named by its address"),
    ("study rl --n-jobs 0", "n_jobs must be a whole number from 1; got 0"),
    ("study rl --seed 3", "unrecognized options: --seed, 3. Did you mean '--seeds'?"),
    ("study rl --seeds 1.5", "'1.5'"),
    ("study minigrid --tasks room", "--tasks 'room' is unknown"),
    ("study minigrid --agents nobody", "--agents 'nobody' is unknown"),
    ("study minigrid --total-timesteps 10", "empty-room is never evaluated; got 10"),
    ("study minigrid --n-eval-episodes 0", "got 0"),
    ("study minigrid --report-only --out OTHER", "has no column environment"),
    ("study zero-shot --groups cartpole-z2", "cartpole-z2"),
    ("study zero-shot --groups", "no group is named"),
    ("study zero-shot --total-timesteps 100", "total_timesteps must be a whole number from 500; got 100"),
    ("study zero-shot --pretrain-threshold 2", "got 2.0"),
    ("study zero-shot --seeds 1 --variants 'equizero, ensemble of the seeds'", "seeds of at least 2"),
    ("study zero-shot --report-only --out OTHER", "has no column group"),
    ("study control --environments Pendulum-v1", "--environments 'Pendulum-v1' is unknown"),
    ("study control --n-episodes 0", "n_episodes must be a whole number from 1; got 0"),
    ("study control --report-only --out nowhere", "nowhere/study.csv is not there"),
    ("study nothing", "study 'nothing' is unknown"),
    ("study --seeds 3", "name a study before --seeds: own, rl, tune, minigrid, zero-shot, control"),
    ("study rl --csv .", "--csv . is a folder"),
    ("study rl --threads 0", "threads must be a whole number from 1; got 0"),
    ("study rl --device nonsense", "device 'nonsense' cannot be used here"),
    ("study rl --plot a b c d e f", "plot names 6 agents; name at most 5"),
    ("bench --report-only", "logs/bench/bench.csv is not there"),
    ("bench --n-jobs 0", "n_jobs must be a whole number from 1; got 0"),
    ("bench --cluster here", "named by its address"),
    ("bench --sections", "no section is named"),
    ("bench --sections pases", "Did you mean 'passes'?"),
    ("bench --min-seconds nan", "got nan"),
    ("bench --device nonsense", "device 'nonsense' cannot be used here"),
    ("bench --device meta", "device 'meta' cannot be used here"),
    ("bench --csv .", "--csv . is a folder"),
    ("bench --out FILE", "is a file, not a folder"),
    ("bench --sections peers --peers-python nowhere", "nowhere is no program"),
    ("bench --sections passes learning --study DAMAGED", "DAMAGED/study.csv is no CSV"),
]


def test_mistakes_are_one_line_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FILE").write_text("")
    head = "agent,seed,timesteps,success_rate,train_seconds,cpu_seconds\nplain,0,100,"
    studies = {"DAMAGED": b"\xff\xfe,", "OTHER": b"a,b\n1,2\n", "WORDS": f"{head}x,1,1\n".encode()}
    studies |= {"RECORD": f"{head}0.5,1,1\n".encode(), "JUNK": f"{head}0.5,1,1\ngarbage\n".encode()}
    for name, content in studies.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.csv").write_bytes(content)
        (tmp_path / name / "record.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    for line, said in MISTAKES:
        arguments = [part.strip("'") for part in _split(line)]
        assert main(arguments) == 2, line
        shown = capsys.readouterr().err
        assert said in shown, (line, shown)
        assert "tyro" not in shown, (line, shown)
        assert shown.count("\n") == 1, (line, shown)
    assert sorted(tmp_path.rglob("*")) == before


def _split(line: str) -> list[str]:
    head, quote, rest = line.partition("'")
    return [*head.split(), rest.strip("'")] if quote else head.split()


def test_a_traceback_is_for_those_who_ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config: _Settings) -> int:
        raise MemoryError("Unable to allocate\n1 TiB")

    assert run_command("program", _Settings, run, []) == 2
    assert capsys.readouterr().err.startswith("program: there is not enough memory for this (Unable to allocate 1 TiB)")
    monkeypatch.setenv("EQUIRL_TRACEBACK", "1")
    with pytest.raises(MemoryError):
        run_command("program", _Settings, run, [])


def test_a_table_calls_an_interval_what_it_is() -> None:
    rows = [(agent, seed, 100, high + 0.01 * seed) for agent, high in (("plain", 0.1), ("b", 0.5)) for seed in range(5)]
    study = pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "success_rate"])
    table = score_table(study, 100)
    assert "| 95 % interval, 5 runs | a run beats one of plain, 95 % interval |" in table
    assert table.endswith("| 1.00 (0.62 to 1.00), 25 of 25 pairs |")
    tied = score_table(study.assign(success_rate=0.5), 100)
    assert tied.endswith("| 0.50 (0.20 to 0.80), 12.5 of 25 pairs |")
    assert tied.splitlines()[2] == "| plain | 0.500 | - | - |"
    assert score_table(study[study.seed == 0], 100).splitlines()[2] == "| plain | 0.100 | - | - |"
    title = draw_learning_curves({"grid": study}, {"grid": 0.9}, "success").axes[0].get_title()
    assert title == "grid: interquartile mean of 5 seeds, band: all seeds"
    one = draw_learning_curves({"grid": study[study.seed == 0]}, {"grid": 0.9}, "success").axes[0].get_title()
    assert one == "grid: one seed"


def test_evaluation_leaves_modes_and_random_numbers() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2), nn.Linear(2, 2))
    network.train()
    network[1].eval()  # frozen by its owner
    torch.manual_seed(3)
    want = torch.rand(3)
    torch.manual_seed(3)

    def measure() -> None:
        with evaluation_mode(network), seeded(7):
            assert not any(module.training for module in network.modules())
            torch.rand(5)
            raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        measure()
    assert [module.training for module in network] == [True, False, True]
    assert network.training
    assert torch.equal(torch.rand(3), want)


def test_files_that_are_damaged_are_named(tmp_path: Path) -> None:
    run = tmp_path / "run.csv"
    write_rows(run, ("a", "b"), [(1, 2)])
    assert read_rows(run, ("a", "b")) == [["1", "2"]]
    for content in (b"", b"a,b\n1\n", b"x,y\n1,2\n", b"\xff\xfe"):
        run.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.csv is no CSV of a run.*delete it"):
            read_rows(run, ("a", "b"))
    weights = tmp_path / "weights.pt"
    for content in (b"", b"no weights", b"PK\x03\x04"):
        weights.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.pt cannot be read"):
            load_weights(nn.Linear(2, 2), weights)
    torch.save(nn.Linear(3, 2).state_dict(), weights)
    with pytest.raises(ValueError, match=r"weights\.pt holds the weights of another network"):
        load_weights(nn.Linear(2, 2), weights)


def test_a_folder_that_cannot_be_made_is_met_before_the_runs(tmp_path: Path) -> None:
    done: list[int] = []

    def run(job: int) -> list[tuple[int]]:
        done.append(job)
        return [(job,)]

    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run_missing(range(3), run, lambda job: tmp_path / "file" / f"{job}.csv", ("n",), 1)
    assert done == []


def test_functions_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_on_import.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert own_function("score", "math:sqrt")(9) == 3
    with pytest.raises(ValueError, match="importing raises_on_import raises ZeroDivisionError"):
        own_function("score", "raises_on_import:f")
    with pytest.raises(ValueError, match="score 'math:pi' is float, not a function"):
        own_function("score", "math:pi")
    with pytest.raises(ValueError, match="score ':' is unknown"):
        own_function("score", ":")


def test_settings_that_mean_nothing_are_refused_in_python() -> None:
    with pytest.raises(TypeError, match=r"agents are a tuple of names, not the text 'plain'; write \('plain',\)"):
        GridWorldOptions(agents="plain")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"seeds must be a whole number from 1; got 2\.5"):
        GridWorldOptions(seeds=2.5)  # type: ignore[arg-type]
    assert GridWorldOptions(seeds=np.int64(2)).seeds == 2  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learning_rate must be a number above 0; got nan"):
        FinetuneConfig(learning_rate=float("nan"))
    with pytest.raises(ValueError, match="size must be a whole number from 2; got 1"):
        GridWorldStates(1)
    with pytest.raises(ValueError, match="device 'meta'"):
        check_device("meta")
    with pytest.raises(ValueError, match="no value of YAML"):
        parse_agent("plain+batch_size=[1")
