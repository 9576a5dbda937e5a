"""Settings that `equirl train` proposes, and those of our files by method."""

from pathlib import Path

import pytest
from command_line import done, here

from equirl.agents.our_hyperparameters import of_method, settings_for
from equirl.agents.starting_points import proposal, starting_point

WORLD = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

gym.register("Pole-v0", CartPoleEnv, max_episode_steps=50)
"""


def test_a_batch_holds_as_many_views_whatever_the_group() -> None:
    assert [starting_point(order, "equitune")["batch_size"] for order in (2, 4, 8, 392)] == [128, 64, 32, 32]
    assert starting_point(8, "augmentation")["batch_size"] == starting_point(1, "plain")["batch_size"] == 256
    assert starting_point(2, "canonical")["batch_size"] == 32
    assert proposal("dqn", 8, 2, "equitune") is None  # it has many environments already
    assert proposal("ppo", 1, 2, "equitune") is None


def test_settings_of_a_method_win_and_those_under_one_symmetry_win_again() -> None:
    entries = {"canonical": {"batch_size": 2, "gamma": 0.5}, "grid-c4/canonical": {"batch_size": 3}}
    shared = {"batch_size": 1, "gamma": 0.9, "methods": entries}
    assert of_method(shared, "plain") == {"batch_size": 1, "gamma": 0.9}
    assert of_method(shared, "canonical", "grid-d4") == {"batch_size": 2, "gamma": 0.5}
    assert of_method(shared, "canonical", "grid-c4") == {"batch_size": 3, "gamma": 0.5}
    assert of_method({"gamma": 0.9}, "canonical") == {"gamma": 0.9}


def test_exploration_lasts_as_long_in_runs_of_any_length() -> None:
    long, longer = (settings_for("dqn", "equirl/GridWorld-v0", steps) for steps in (20_000, 40_000))
    assert long["exploration_fraction"] == pytest.approx(2 * longer["exploration_fraction"])


def test_a_world_without_settings_of_ours_gets_a_proposal_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "pole.py").write_text(WORLD)
    command = ["train", "--env", "pole:Pole-v0", "--symmetry", "cartpole-z2", "--method", "equitune", "-n", "60"]
    told = done(*command).out
    (line,) = [line for line in told.splitlines() if line.startswith("Often faster")]
    assert "batch_size:128 " in line
    again = done(*command, *line[line.index("-params") :].partition(" (")[0].split()).out
    assert "Often faster" not in again
    assert "Often faster" not in done("train", "--env", "CartPole-v1", "-n", "60").out


def test_settings_by_method_in_a_file_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    head = "CartPole-v1:\n  policy: MlpPolicy\n  n_timesteps: 50\n  methods:\n"
    for entry, said in (
        ("    canonica:\n      batch_size: 8\n", "Did you mean 'canonical'?"),
        ("    canonical:\n      batch_siz: 8\n", "methods, canonical: hyperparameter of dqn 'batch_siz' is unknown"),
        ("    canonical: 3\n", "settings are due"),
    ):
        Path("own.yml").write_text(head + entry)
        failed = here("train", "--env", "CartPole-v1", "-conf", "own.yml")
        assert failed.status == 2
        assert said in failed.err[0], failed.err
