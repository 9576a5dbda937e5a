import csv
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from equirl.agents.cli import main
from equirl.experiments.scan import study
from equirl.experiments.scan.config import ScanConfig, variants_of
from equirl.experiments.scan.report import report_scan
from equirl.experiments.scan.splits import make_split, write_splits
from equirl.experiments.scan.study import COLUMNS, fit_configs

TINY = ["--split", "addprim_turn_left", "--hidden", "8", "--pretrain-steps", "4", "--fine-tune-steps", "2"]
TINY += ["--seeds", "1", "--n-jobs", "1"]


def test_the_study_runs_and_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study, "_LAMBDA_FIT", replace(study._LAMBDA_FIT, steps=10))
    few = make_split("addprim_turn_left")
    few = replace(few, train=few.train[::10], test=few.test[::10])  # test_data_in_a_folder takes all of them
    monkeypatch.setattr(study, "make_split", lambda name: few)
    study._made_data.cache_clear()
    out = tmp_path / "scan"
    methods = ["--method", "plain", "equitune", "equizero", "lambda_equitune", "g_lstm", "--lambda-data", "1", "0.01"]
    assert main(["scan", *TINY, *methods, "--proxy-loss", "entropy", "likelihood", "--out", str(out)]) == 0
    assert "1 runs, 1 to do" in capfd.readouterr().out
    with (out / "study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    shown = {(row["method"], row["variant"]): row for row in rows}
    assert list(shown) == [
        ("plain", "-"),
        ("equitune", "-"),
        ("equizero", "entropy"),
        ("equizero", "likelihood"),
        ("lambda_equitune", "1 of the data"),
        ("lambda_equitune", "0.01 of the data"),
        ("g_lstm", "-"),
    ]
    assert shown["plain", "-"]["fine_tuned"] == shown["lambda_equitune", "0.01 of the data"]["fine_tuned"] == ""
    assert shown["g_lstm", "-"]["zero_shot"] == ""
    tuned = [row for row in rows if row["method"] in ("equitune", "equizero")]
    assert {row["fine_tune_steps"] for row in tuned} == {"2"}
    assert len(list((out / "runs").glob("*-views-seed0-*.pt"))) == 1  # one fine-tuning for all of them
    assert all(0 <= float(row["held_out"]) <= 1 for row in rows)
    assert {row["pretrain_steps"] for row in rows if row["method"] != "g_lstm"} == {"4"}
    assert json.loads((out / "record.json").read_text())["config"]["fine_tune_steps"] == 2
    assert (out / "accuracy.png").stat().st_size > 10_000
    assert list((out / "tensorboard").rglob("events.*"))
    assert not list(out.rglob("*.part"))
    assert main(["scan", *TINY, "--method", "equitune", "--loss", "aggregate", "--out", str(tmp_path / "own")]) == 0
    with (tmp_path / "own" / "study.csv").open(newline="") as file:
        (own,) = csv.DictReader(file)
    assert own["variant"] == "aggregate"
    assert own["fine_tuned"]
    # What is done stays done.
    assert main(["scan", *TINY, *methods, "--proxy-loss", "entropy", "likelihood", "--out", str(out)]) == 0
    assert "7 runs, 0 to do" in capfd.readouterr().out
    study._made_data.cache_clear()


def test_data_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    assert main(["scan", "data", "--out", str(data), "--split", "addprim_turn_left"]) == 0
    assert "21,890 commands; tasks_test_addprim_turn_left.txt: 1,208" in capsys.readouterr().out
    path = data / "tasks_test_addprim_turn_left.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    arguments = ["scan", *TINY, "--method", "plain", "--data", str(data), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "test: 1 missing" in capsys.readouterr().out
    path.write_text("IN: walk OUT: I_RUN\n")
    assert main(arguments) == 2
    assert "line 1: 'walk' stands for 'I_WALK', the file says 'I_RUN'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "add_jump"], "--split 'add_jump' is unknown"),
        (["--cell", "lstn"], "--cell 'lstn' is unknown"),
        (["--method", "equizro"], "--method 'equizro' is unknown"),
        (["--proxy-loss", "max_value"], "--proxy-loss 'max_value' is unknown"),
        (["--loss", "view"], "--loss 'view' is unknown"),
        (["--symmetry", "cyclic:jump,jump"], "'jump' is there twice"),
        (["--symmetry", "cyclic:jump,skip"], "word 'skip' is unknown"),
        (["--lambda-data", "1.5"], "above 0 and up to 1"),
        (["--seeds", "0"], "must be a whole number from 1"),
        (["--device", "abacus"], "device 'abacus' cannot be used here"),
        (["--data", "nowhere"], "equirl scan data --out nowhere"),
        (["--report-only", "--out", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["scan", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert main(["scan", "data", "--out", "x", "--split", "jump"]) == 2


def test_variants() -> None:
    config = ScanConfig(method=("plain", "equitune"), symmetry=("jump-run", "verbs-c4"))
    assert [(v.method, v.symmetry) for v in variants_of(config, "addprim_jump")] == [
        ("plain", "-"),
        ("equitune", "jump-run"),
        ("equitune", "verbs-c4"),
    ]
    assert {v.symmetry for v in variants_of(ScanConfig(), "template_around_right")} == {"-", "directions"}


def test_what_fine_tuning_learns_from() -> None:
    every = ("equitune", "equizero", "lambda_equitune")
    assert {v.loss for v in variants_of(ScanConfig(method=every), "simple")} == {"views"}
    assert {v.loss for v in variants_of(ScanConfig(method=every, fine_tune=False), "simple")} == {""}
    published = {v.method: v.loss for v in variants_of(ScanConfig(method=every, paper=True), "simple")}
    assert published == {"equitune": "aggregate", "equizero": "views", "lambda_equitune": "aggregate"}
    both = variants_of(ScanConfig(method=("equitune",), loss=("views", "aggregate")), "simple")
    assert [v.name for v in both] == ["", "aggregate"]


def test_the_published_protocol() -> None:
    pretraining, fine_tuning = fit_configs(ScanConfig(paper=True), "addprim_jump")
    assert (pretraining.steps, pretraining.batch_size, pretraining.learning_rate) == (200_000, 1, 1e-4)
    assert (fine_tuning.steps, fine_tuning.learning_rate, fine_tuning.teacher_forcing) == (10_000, 5e-5, 0.5)
    assert fit_configs(ScanConfig(paper=True), "template_around_right")[1].learning_rate == 2e-5
    shorter = fit_configs(ScanConfig(paper=True, pretrain_steps=30, fine_tune_steps=20), "addprim_jump")
    assert [(c.steps, c.batch_size) for c in shorter] == [(30, 1), (20, 1)]


def test_the_table_is_the_mean_over_seeds(tmp_path: Path) -> None:
    rows = [
        ("addprim_jump", "lstm", "jump-run", "equitune", "-", seed, 1.0, zero_shot, fine_tuned, 10, 5, 60.0)
        for seed, zero_shot, fine_tuned in ((0, 0.2, 0.9), (1, 0.4, 1.0))
    ]
    rows.append(("addprim_jump", "lstm", "-", "plain", "-", 0, 0.99, 0.01, None, 10, 0, 0.0))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(tmp_path / "study.csv", index=False)
    table = report_scan(tmp_path).text
    assert "| equitune | - | 2 | 100.0 | 30.0 | 20.0 to 40.0 | 95.0 | 90.0 to 100.0 | 97.9 | 60 |" in table
    assert "| plain | - | 1 | 99.0 | 1.0 | 1.0 to 1.0 |  |  | 0.0 | 0 |" in table


def test_written_files_are_the_official_ones(tmp_path: Path) -> None:
    assert [path.name for path in write_splits(tmp_path, ["template_around_right"])] == [
        "tasks_train_template_around_right.txt",
        "tasks_test_template_around_right.txt",
    ]
