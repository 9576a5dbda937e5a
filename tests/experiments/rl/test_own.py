"""``equirl study own``: methods compared on a world of a user's own."""

import csv
import re
from pathlib import Path

import pytest
from command_line import done, here
from own_torus import write_torus

from equirl.agents.cli import discover
from equirl.symmetry import load_symmetry

_SHORT = ["--steps", "100", "--n-eval-episodes", "2", "--n-jobs", "1", "--hyperparams", "learning_starts:20"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def _rows(file: str) -> list[dict[str, str]]:
    with Path(file).open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_methods_are_compared_and_a_stopped_study_goes_on(tmp_path: Path) -> None:
    write_torus(tmp_path, "torus_own")
    study = ["study", "--env", "torus_own:torus_own-v0", "--symmetry", "torus_own", "--seeds", "2", *_SHORT]
    some = [*study, "train_freq:10", "--methods", "plain", "augmentation", "canonical", "--csv", "copy.csv"]
    told = done(*some).out
    assert "6 runs, 6 to do" in told
    rows = _rows("copy.csv")
    assert {(row["agent"], row["seed"]) for row in rows} == {
        (agent, seed) for agent in ("plain", "augmentation", "canonical") for seed in "01"
    }
    assert all(0 <= float(row["success_rate"]) <= 1 for row in rows)
    assert max(int(row["timesteps"]) for row in rows) == 100
    folder = Path("logs/study/own/torus_own-v0")
    for name in ("learning_curves.png", "performance_profile.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    summary = (folder / "summary.md").read_text()
    assert "success rate of 2 episodes" in summary
    assert "seeds at success rate 0.95" in summary
    assert re.search(r"mean success rate over 100 steps, IQM \| 95 % interval, 2 runs", summary)
    next(folder.glob("runs/canonical-seed1-*.csv")).unlink()
    assert "6 runs, 1 to do" in done(*some).out
    (folder / "summary.md").unlink()
    assert done(*some, "--report-only").out.startswith("**torus_own-v0, DQN, torus_own**")
    assert (folder / "summary.md").read_text() == summary


def test_with_auto_the_symmetry_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discover, "_STEPS", 8_000)
    write_torus(tmp_path, "torus_auto")
    study = ["study", "--env", "torus_auto:torus_auto-v0", "--symmetry", "auto", "--seeds", "1", *_SHORT]
    settings = ["--methods", "canonical", "--method-kwargs", "seed:3"]
    told = done(*study, *settings).out
    file = Path("logs/study/own/torus_auto-v0/symmetry.toml")
    assert "found, exact: a group of order 200" in told
    assert load_symmetry(file).group.order == 200
    assert "1 runs, 1 to do" in told
    again = done(*study, *settings).out
    assert f"Symmetry: {file}, found before" in again
    assert "1 runs, 0 to do" in again
    # Another world in the same folder has a symmetry of its own.
    small = done(*study, *settings, "--env-kwargs", "n:4", "--out", str(file.parent)).out
    assert "found, exact" in small
    assert "1 runs, 1 to do" in small
    assert load_symmetry(file).observation.shape == (2, 4, 4)


def test_returns_count_where_no_success_is_reported(tmp_path: Path) -> None:
    write_torus(tmp_path, "torus_returns")
    world = ["--env", "torus_returns-v0", "--gym-packages", "torus_returns", "--symmetry", "torus_returns"]
    rollouts = [*_SHORT[:-1], "n_steps:64", "--algo", "ppo", "--seeds", "1", "--out", "returns"]
    methods = ["--methods", "plain", "equitune", "--env-kwargs", "success:False", "mode:dense"]
    told = done("study", "own", *world, *rollouts, *methods).out
    assert "mean return of 2 episodes" in told
    assert "seeds at" not in told  # nothing says what counts as learned
    assert {row["success_rate"] for row in _rows("returns/study.csv")} == {""}
    assert min(float(row["mean_return"]) for row in _rows("returns/study.csv")) < 0
    assert "seeds at mean return 0.5" in done("study", "own", *world, *rollouts, *methods, "--threshold", "0.5").out


def test_minigrid_is_seen_through_the_view_of_the_symmetry() -> None:
    world = ["--env", "MiniGrid-Empty-5x5-v0", "--symmetry", "minigrid-d4", "--seeds", "1", "--out", "mini"]
    methods = ["--methods", "plain", "equitune", "--eval-freq", "100", "--view-kwargs", "n_actions:3"]
    done("study", "own", *world, *_SHORT, "buffer_size:100", "train_freq:50", *methods)
    assert {row["agent"] for row in _rows("mini/study.csv")} == {"plain", "equitune"}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--env torus_x:torus_wrong-v0 --symmetry grid-d4", "no module of the name torus_x"),
        ("--env torus_wrong:torus_wrong-v1 --symmetry grid-d4", "Did you mean 'torus_wrong-v0'"),
        ("--env torus_wrong:torus_wrong-v0 --symmetry torus_wron", "Did you mean 'torus_wrong'"),
        ("--env torus_wrong:torus_wrong-v0 --symmetry no.toml", "there is no symmetry file no.toml"),
        ("OWN --symmetry grid-d4", "the agent augmentation cannot be made: symmetry 'grid-d4' permutes the 4 moves"),
        ("OWN", "missing: --symmetry"),
        ("OWN --symmetry torus_wrong --steps 60", "learns nothing within 60 steps, for it begins after 101"),
        ("OWN --symmetry torus_wrong --algo ppo", r"learns nothing within 2000 steps.*\(n_steps:2048 n_envs:1\)"),
        ("OWN --symmetry torus_wrong --eval-freq 9999", "eval_freq 9999 is above steps 2000"),
        ("OWN --symmetry torus_wrong --methods plain plain", "'plain' is there twice"),
        ("OWN --symmetry torus_wrong --methods plian", "Did you mean 'plain'"),
        ("OWN --symmetry torus_wrong --hyperparams gama:1", "hyperparameter of dqn 'gama' is unknown"),
        ("OWN --symmetry torus_wrong --hyperparams gamma", "'gamma' is not KEY:VALUE"),
        ("OWN --symmetry torus_wrong --hyperparams frame_stack:4", "frame_stack cannot be shared by all methods"),
        ("OWN --symmetry torus_wrong --hyperparams policy:no.Such", "policy 'no.Such' cannot be imported"),
        ("OWN --symmetry torus_wrong --env-kwargs mod:dense", "its settings are render_mode, mode, n, success"),
        ("OWN --symmetry torus_wrong --conf-file no.yml", "no.yml cannot be read"),
        (
            "OWN --symmetry torus_wrong --methods plain canonical --method-kwargs hidden:3",
            "Did you mean|known: margin, seed",
        ),
        ("OWN --symmetry torus_wrong --view-kwargs n_actions:3", "settings of a view are for MiniGrid environments"),
        ("OWN --symmetry auto --env-kwargs mod:dense", "its settings are render_mode, mode, n, success"),
        ("OWN --symmetry torus_wrong --report-only", "study.csv is not there; `equirl study own` writes it"),
        ("--env MiniGrid-Empty-5x5-v0 --symmetry grid-d4", "its symmetries are minigrid-c4"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_trained(words: str, told: str, tmp_path: Path) -> None:
    write_torus(tmp_path, "torus_wrong")
    own = ["--env", "torus_wrong:torus_wrong-v0"]
    arguments = [part for word in words.split() for part in (own if word == "OWN" else [word])]
    steps = [] if "--steps" in arguments else ["--steps", "2000"]
    outcome = here("study", *arguments, *steps)
    assert outcome.status == 2
    assert len(outcome.err) == 1
    assert re.search(told, outcome.err[0]), outcome.err[0]
    assert not list(tmp_path.glob("logs/study/own/*/runs/*"))
