"""Settings that `equirl train` proposes, and those of our files by method."""

from pathlib import Path

import pytest
from command_line import SHORT, config, done

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
    world = ("dqn", "equirl/GridWorld-v0")
    under_d4, under_c4 = (of_method(*world, "equitune", symmetry) for symmetry in ("grid-d4", "grid-c4"))
    assert under_d4 == of_method(*world, "equitune")
    assert under_c4["batch_size"] != settings_for(*world, 1_000, "equitune", "grid-d4")["batch_size"]
    assert settings_for(*world, 1_000, "equitune", "grid-c4")["batch_size"] == under_c4["batch_size"]
    assert (
        of_method(*world, None)
        == of_method("dqn", "CartPole-v1", "plain")
        == of_method("ppo", *world[1:], "plain")
        == {}
    )


def test_equirl_train_takes_the_settings_of_the_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done("train", "--method", "canonical", *SHORT, "-n", "100")
    assert config(tmp_path)["batch_size"] == of_method("dqn", "equirl/GridWorld-v0", "canonical")["batch_size"]
    done("train", "--method", "canonical", *SHORT, "-n", "100", "-params", "batch_size:7")
    assert config(tmp_path, 2)["batch_size"] == 7


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
