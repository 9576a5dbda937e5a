"""``equirl study``: small studies from the command line."""

import csv
from pathlib import Path

import pytest
from command_line import done


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_small_study_resumes_and_reports(tmp_path: Path) -> None:
    arguments = [
        "study", "rl", "--agents", "plain", "grid-c4/equizero+gradient=straight_through", "--seeds", "2",
        "--size", "3", "--total-timesteps", "400", "--eval-freq", "100", "--threshold", "0.2", "--out", "study",
        "--n-jobs", "1",
    ]  # fmt: skip
    assert "4 runs, 4 to do" in done(*arguments).out
    with (tmp_path / "study/study.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["agent"] for row in rows} == {"plain", "grid-c4/equizero+gradient=straight_through"}
    assert {row["seed"] for row in rows} == {"0", "1"}
    assert all(0 <= float(row["success_rate"]) <= 1 for row in rows)
    assert (tmp_path / "study/learning_curves.png").read_bytes().startswith(b"\x89PNG")
    assert "| plain |" in (tmp_path / "study/summary.md").read_text()
    first = (tmp_path / "study/study.csv").read_bytes()

    lost = next((tmp_path / "study/runs").glob("plain-seed1-*.csv"))
    lost.unlink()
    assert "4 runs, 1 to do" in done(*arguments).out
    columns = [line.rsplit(b",", 2)[0] for line in first.splitlines()]  # without the seconds
    again = [line.rsplit(b",", 2)[0] for line in (tmp_path / "study/study.csv").read_bytes().splitlines()]
    assert columns == again  # equal seeds, equal runs
    other = ["--stop-after", "2", "--agents", "plain", "--seeds", "1"]
    assert "1 runs, 1 to do" in done(*arguments, *other).out  # another setting, another run


STUDIES = {
    "minigrid": [
        *["--tasks", "empty-room", "--seeds", "1", "--total-timesteps", "1000", "--n-eval-episodes", "2"],
        *["--agents", "plain", "equitune"],
    ],
    "control": [
        *["--environments", "CartPole-v1", "--seeds", "1", "--total-timesteps", "900", "--n-episodes", "2"],
        *["--variants", "plain", "equizero, max_value"],
    ],
    "zero-shot": [
        *["--size", "3", "--seeds", "2", "--total-timesteps", "600", "--groups", "grid-c4", "--variants", "plain"],
        "equizero, novelty",
        "equizero, ensemble of the seeds",
        "λ-equitune, inputs, 300 states",
    ],
}


@pytest.mark.parametrize(
    ("study", "picture"),
    [("minigrid", "learning_curves.png"), ("zero-shot", "success.png"), ("control", "returns.png")],
)
def test_small_studies_write_what_they_say(study: str, picture: str, tmp_path: Path) -> None:
    arguments = ["study", study, *STUDIES[study], "--n-jobs", "1", "--out", "study"]
    output = done(*arguments).out
    for name in ("study.csv", "record.json", "summary.md", picture):
        assert (tmp_path / "study" / name).stat().st_size > 0
    assert (tmp_path / "study/summary.md").read_text().strip() in output
    assert " 0 to do" in done(*arguments).out
