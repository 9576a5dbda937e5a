import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from equirl import Equitune, equivariance_error
from equirl.agents.cli import main
from equirl.experiments.cost.measurement import COLUMNS, Measurement, compare
from equirl.experiments.cost.passes import METHODS, SCALING, backbone, group_symmetry, kernel_cases
from equirl.experiments.cost.report import fitted_exponents
from equirl.experiments.cost.training import read_learning
from equirl.experiments.timing import Settings, peak_of_arrays, peak_of_tensors

SETTINGS = Settings("cpu", 1, 3, 0.0, True)


@pytest.mark.parametrize("group", ["C4", "D4", "S4"])
@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_what_is_measured_is_equivariant(group: str, kind: str) -> None:
    symmetry, shape = group_symmetry(group, 8)
    x = torch.randn(5, *shape)
    outputs = {}
    for name, make in METHODS.items():
        module = make(backbone(kind, shape), symmetry)
        assert equivariance_error(module, symmetry.observation, symmetry.action, x) < 1e-5
        outputs[name] = module(x)
    assert torch.allclose(outputs["loop"], outputs["equitune"], atol=1e-6)


def test_kernels_compute_what_they_take_the_place_of() -> None:
    for what, *_, cases in kernel_cases(SETTINGS):
        replaced, kernel = (case().reshape(-1) for case in cases.values())
        assert torch.allclose(replaced, kernel, atol=1e-6), what


def test_ratios_are_of_the_same_round() -> None:
    calls: list[str] = []
    cases = {name: (lambda name=name: calls.append(name)) for name in ("plain", "other")}
    rows = compare(cases, SETTINGS, "nothing", "C4", "mlp", 8, 1, 4, lambda: calls.append("all"))
    assert [row.method for row in rows] == ["plain", "other"]
    assert rows[0].ratio_to_plain == 1
    assert all(row.seconds > 0 and row.ratio_to_floor > 0 for row in rows)
    assert rows[0].group == "-"
    turns = [name for name, before in zip(calls, ["", *calls], strict=False) if name != before]
    assert turns[-3:] == ["plain", "other", "all"]


def test_exponents_are_those_of_a_power_law() -> None:
    rows = [
        Measurement(SCALING["batch"], "equitune", "C4", "mlp", 8, batch, 1e-6 * batch**1.5, peak_mb=2.0 * batch)
        for batch in (1, 2, 4, 8, 16, 32)
    ]
    time, memory = fitted_exponents(pd.DataFrame(rows))["batch"]
    assert math.isclose(time, 1.5, rel_tol=1e-6)
    assert math.isclose(memory, 1.0, rel_tol=1e-6)


def test_peak_memory_is_the_sum_of_what_lives_at_a_time() -> None:
    def two_then_one() -> None:
        first = torch.ones(1000)
        second = first + 1
        del first, second
        torch.ones(1500)

    assert peak_of_tensors(two_then_one, "cpu") == pytest.approx(8000e-6, rel=0.01)


def test_what_was_there_before_is_not_counted() -> None:
    layer = torch.nn.Linear(100, 100)

    def step() -> None:
        layer.zero_grad()
        layer(torch.ones(1, 100)).sum().backward()

    assert peak_of_tensors(step, "cpu") == pytest.approx(4 * 10_100e-6, rel=0.1)  # the gradients


def test_peak_memory_of_arrays() -> None:
    assert peak_of_arrays(lambda: np.ones(100_000)) == pytest.approx(0.8, rel=0.01)


def test_learning_is_read_from_a_study(tmp_path: Path) -> None:
    rows = [("plain", s, t, float(t >= 30), t / 10, t / 10) for s in range(3) for t in (10, 20, 30)]
    rows += [
        ("grid-d4/canonical", s, t, float(t >= 10 + 10 * s), t / 10, t / 10) for s in range(3) for t in (10, 20, 30)
    ]
    frame = pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "success_rate", "train_seconds", "cpu_seconds"])
    frame.to_csv(tmp_path / "study.csv", index=False)
    plain, canonical = read_learning(tmp_path, SETTINGS)
    assert (plain.seconds, plain.steps, plain.ratio_to_plain) == (3.0, 30, 1.0)
    assert (canonical.method, canonical.group, canonical.seconds) == ("canonical", "D4", 2.0)
    assert math.isclose(canonical.ratio_to_plain, 2 / 3)


def test_the_command_writes_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    arguments = [
        "bench",
        "--quick",
        "--device",
        "cpu",
        "--sections",
        "environments",
        "learning",
        "--csv",
        "figures.csv",
    ]
    try:
        assert main([*arguments, "--out", "bench", "--study", "nowhere"]) == 0
    finally:
        torch.set_num_threads(threads)
    captured = capsys.readouterr()
    assert "No GPU is used" in captured.out
    assert "nowhere holds no study.csv" in captured.err
    with (tmp_path / "figures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert {row["method"] for row in rows} == {"SB3 DummyVecEnv", "vectorised, SB3", "vectorised, Gymnasium"}
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert np.isclose(float(rows[0]["ratio_to_plain"]), 1)
    assert json.loads((tmp_path / "bench/record.json").read_text())["config"]["quick"] is True
    assert "SB3 DummyVecEnv" in (tmp_path / "bench/bench.md").read_text()


def test_mistakes_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--sections", "passses"]) == 2
    assert "passes" in capsys.readouterr().err
    assert main(["bench", "--rounds", "0"]) == 2


def test_a_module_of_the_bench_splits_large_batches() -> None:
    symmetry, shape = group_symmetry("D4", 8)
    module = METHODS["equitune"](backbone("cnn", shape), symmetry)
    assert isinstance(module, Equitune)
    x = torch.randn(64, *shape)
    with torch.no_grad():
        module(x[:1])
        rows: list[int] = []
        module.backbone.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
        module(x)
    assert len(rows) > 1
    assert sum(rows) == 512
