"""`equirl study tune`: every agent gets the same trials, and the best finalist wins."""

from pathlib import Path

import pandas as pd
import pytest
from command_line import done

from equirl.experiments.rl import tuning
from equirl.experiments.rl.tuning import SPACES, TuneOptions, columns_of, winner


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_agent_has_its_trials_and_its_finalists() -> None:
    command = ["study", "tune", "--agents", "plain", "grid-d4/canonical", "--size", "2", "--threshold", "0.2"]
    command += ["--trials", "3", "--seeds", "2", "--finalists", "1", "--final-seeds", "1", "--n-jobs", "1"]
    command += ["--total-timesteps", "1500", "--eval-freq", "600"]
    done(*command)
    rows = pd.read_csv("logs/study/tune/study.csv")
    assert tuple(rows.columns) == columns_of("gridworld")
    for _, runs in rows.groupby("agent"):
        assert set(runs.trial) == {0, 1, 2}
        assert len(winner(runs)) == 3  # two seeds of the search, one of the finalist
        assert runs.seed.min() == 10_000  # other seeds than those of studies
        assert all(set(runs[name]) <= set(values) for name, values in SPACES["gridworld"].items())
    assert "| plain | 3 |" in Path("logs/study/tune/summary.md").read_text()


def test_a_search_that_was_stopped_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    options = TuneOptions(agents=("plain",), trials=12, seeds=2, finalists=2, final_seeds=1)  # 10 at random, 2 by TPE
    learned: list[tuple[float, int]] = []

    def learn(_: object, __: str, settings: dict[str, float], seed: int, ___: float) -> tuple[int, float, float, float]:
        if len(learned) == stopped_at:
            raise KeyboardInterrupt
        learned.append((settings["learning_rate"], seed))
        cost = round(abs(settings["learning_rate"] - 0.001) * 1000 + seed % 2, 2)
        return 600, 1.0, 0.1, cost

    monkeypatch.setattr(tuning, "_learn", learn)
    (stage,) = tuning._stages(options)
    (job,), stopped_at = stage.jobs, -1
    stage.file_of(job).parent.mkdir(parents=True)
    whole = [list(map(str, row)) for row in stage.run(job)]
    assert len(whole) == len(set(learned)) == 12 * 2 + 2
    for stopped_at in (3, 23, 25):
        learned.clear()
        with pytest.raises(KeyboardInterrupt):
            stage.run(job)
        stopped_at = -1
        assert [list(map(str, row)) for row in stage.run(job)] == whole
        assert len(learned) == len(set(learned)) == len(whole)  # no run is done twice
    assert list(stage.file_of(job).parent.iterdir()) == []


def test_tasks_of_minigrid_are_searched_with_their_own_agents_and_choices() -> None:
    command = ["study", "tune", "--task", "door-key", "--agents", "equitune", "--threshold", "0.001", "--n-jobs", "1"]
    command += ["--trials", "1", "--seeds", "1", "--finalists", "1", "--final-seeds", "1"]
    done(*command, "--total-timesteps", "300", "--eval-freq", "300", "--n-eval-episodes", "2")
    (first, second) = pd.read_csv("logs/study/tune/study.csv").to_dict("records")
    assert all(first[name] in values for name, values in SPACES["door-key"].items())
    assert (first["seed"], second["seed"]) == (10_000, 10_001)
    with pytest.raises(ValueError, match="'lambda_equitune'"):
        TuneOptions(task="door-key", agents=("lambda_equitune",))
    with pytest.raises(ValueError, match="size is that of the gridworld"):
        TuneOptions(task="door-key", size=5)


def test_the_winner_is_the_best_of_the_trials_with_most_seeds() -> None:
    rows = pd.DataFrame({"trial": [0, 1, 1, 2, 2, 2, 3, 3, 3], "cost": [1.0, 1, 1, 3, 3, 6, 2, 5, 2]})
    rows["seed"] = rows.groupby("trial").cumcount()
    assert set(winner(rows).trial) == {3}


def test_what_a_search_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="most_cpu_seconds must be a number above 0"):
        TuneOptions(most_cpu_seconds=0)
    with pytest.raises(ValueError, match="trials must be a whole number from 1; got 0"):
        TuneOptions(trials=0)
