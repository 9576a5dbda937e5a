"""A symmetry file in place of a name, in every command that takes one."""

from pathlib import Path

import pytest
from command_line import SHORT, done, here
from stable_baselines3 import DQN

from equirl import build_symmetry
from equirl.symmetry import save_symmetry


@pytest.fixture(autouse=True)
def _pole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_symmetry(build_symmetry("cartpole-z2", (4,), 2), "pole.toml")


def test_a_file_takes_the_place_of_a_name() -> None:
    assert "holds as far as checked" in done("check", "CartPole-v1", "--symmetry", "pole.toml").out
    options = ["--env", "CartPole-v1", "--symmetry", "pole.toml", "-n", "60", *SHORT, "-params", "learning_starts:20"]
    assert "equivariant under pole.toml, lambda_equitune" in done("train", *options).out
    DQN("MlpPolicy", "CartPole-v1", buffer_size=100, learning_starts=20).learn(60).save("plain.zip")
    of_agent = ["plain.zip", "--env", "CartPole-v1", "--symmetry", "pole.toml"]
    done("symmetrize", *of_agent, "--method", "equitune", "-o", "symmetrized.zip")
    Path("pole.toml").unlink()
    assert DQN.load("symmetrized.zip").q_net.symmetry.name == "cartpole-z2"


@pytest.mark.parametrize("command", ["check", "train", "audit"])
def test_a_file_that_is_not_there_or_damaged_is_named(command: str) -> None:
    Path("damaged.toml").write_text("format = 1")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=10).save("plain.zip")
    world = {
        "check": ["CartPole-v1"],
        "train": ["--env", "CartPole-v1"],
        "audit": ["plain.zip", "--env", "CartPole-v1"],
    }
    for file, said in (("pol.toml", "there is no symmetry file pol.toml"), ("damaged.toml", "holds no symmetry")):
        outcome = here(command, *world[command], "--symmetry", file)
        assert outcome.status == 2
        assert said in outcome.err[-1]
