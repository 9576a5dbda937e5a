"""``equirl discover`` and ``equirl train --symmetry auto``."""

import json
import tomllib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from command_line import FAST, QUICK, done, here

from equirl.envs import check_symmetry
from equirl.symmetry import load_symmetry


def test_what_was_found_is_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = done("discover", "CartPole-v1", "--steps", "6000", "-o", "cart.toml").out
    assert told.startswith("found, exact: a group of order 2")
    assert "Written to cart.toml" in told
    assert check_symmetry(gym.make("CartPole-v1"), load_symmetry("cart.toml"), n_transitions=100).ok
    none = here("discover", "MountainCar-v0", "--steps", "4000", "--json")
    assert none.status == 3
    assert json.loads(none.out)["outcome"] == "none found"


def test_what_holds_nearly_is_never_written_as_a_symmetry_that_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    told = here("discover", "InvertedPendulum-v5", "-o", "pole.toml")
    assert told.status == 4
    assert told.out.startswith("nearly: a group of order 2 that does not hold")
    evidence = tomllib.loads(Path("pole.toml").read_text())["evidence"]
    assert evidence["outcome"] == "nearly"
    assert 0 < evidence["error"] < 0.01
    assert "100.0% of 300 pairs of state and action differ" in evidence["does not hold"]
    assert here("check", "InvertedPendulum-v5", "--symmetry", "pole.toml", "--no-starts").status == 1
    refused = here("train", "--algo", "ppo", "--symmetry", "auto", "--env", "InvertedPendulum-v5")
    assert refused.status == 2
    assert "does not hold, but nearly" in refused.err[-1]
    assert not Path("logs").exists()


def test_mistakes_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, told in (
        (["CartPool-v1"], "CartPole"),
        (["nowhere:Env-v0"], "nowhere"),
        (["CartPole-v1", "-o", "cart.json"], "a symmetry file ends in .toml"),
        (["CartPole-v1", "--steps", "0"], "'0' is not a whole number from 1"),
        (["Blackjack-v1", "--steps", "10"], "Discrete or Box actions and Box or Discrete observations"),
    ):
        wrong = here("discover", *arguments)
        assert wrong.status == 2
        assert len(wrong.err) == 1
        assert told in wrong.err[0]
    assert not list(tmp_path.iterdir())


def test_training_with_auto_is_training_with_the_declared_symmetry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = [*QUICK, "--method", "equitune", "--summary-episodes", "0", "-params", *FAST]
    told = done("train", "--symmetry", "auto", *base).out
    assert "found, exact: a group of order 8" in told
    assert "equivariant under logs/symmetries/equirl-GridWorld-v0.toml, equitune" in told
    done("train", "--symmetry", "grid-d4", *base)
    found, declared = (np.load(f"logs/dqn/equirl-GridWorld-v0_{run}/evaluations.npz") for run in (1, 2))
    assert np.array_equal(found["results"], declared["results"])
    curves = [Path(f"logs/dqn/equirl-GridWorld-v0_{run}/0.monitor.csv").read_text().splitlines() for run in (1, 2)]
    assert [line.split(",")[:2] for line in curves[0][2:]] == [line.split(",")[:2] for line in curves[1][2:]]
    none = here("train", "--symmetry", "auto", "--env", "MountainCar-v0")
    assert none.status == 2
    assert "--symmetry auto: none found in MountainCar-v0" in none.err[-1]
