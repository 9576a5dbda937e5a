"""`equirl study tune`: every agent gets the same trials, and the best finalist wins."""

from pathlib import Path

import pandas as pd
import pytest
from command_line import done

from equirl.experiments.rl.tuning import COLUMNS, SPACE, TuneOptions, winner


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_agent_has_its_trials_and_its_finalists() -> None:
    command = ["study", "tune", "--agents", "plain", "grid-d4/canonical", "--size", "2", "--threshold", "0.2"]
    command += ["--trials", "3", "--seeds", "2", "--finalists", "1", "--final-seeds", "1", "--n-jobs", "1"]
    command += ["--total-timesteps", "1500", "--eval-freq", "600"]
    done(*command)
    rows = pd.read_csv("logs/study/tune/study.csv")
    assert tuple(rows.columns) == COLUMNS
    for _, runs in rows.groupby("agent"):
        assert set(runs.trial) == {0, 1, 2}
        assert len(winner(runs)) == 3  # two seeds of the search, one of the finalist
        assert runs.seed.min() == 10_000  # other seeds than those of studies
        assert all(set(runs[name]) <= set(values) for name, values in SPACE.items())
    assert "| plain | 3 |" in Path("logs/study/tune/summary.md").read_text()


def test_the_winner_is_the_best_of_the_trials_with_most_seeds() -> None:
    rows = pd.DataFrame({"trial": [0, 1, 1, 2, 2, 2, 3, 3, 3], "cost": [1.0, 1, 1, 3, 3, 6, 2, 5, 2]})
    rows["seed"] = rows.groupby("trial").cumcount()
    assert set(winner(rows).trial) == {3}


def test_what_a_search_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="most_cpu_seconds must be a number above 0"):
        TuneOptions(most_cpu_seconds=0)
    with pytest.raises(ValueError, match="trials must be a whole number from 1; got 0"):
        TuneOptions(trials=0)
