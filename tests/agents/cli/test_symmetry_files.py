"""A symmetry file in place of a name, in every command that takes one."""

import re
from pathlib import Path

import pytest
from command_line import SHORT, done, here
from stable_baselines3 import DQN

from equirl import build_symmetry
from equirl.envs import make_environment
from equirl.envs.making import view_table
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


def test_a_file_puts_minigrid_behind_its_view() -> None:
    world, planes = "MiniGrid-DoorKey-5x5-v0", ["unseen", "wall", "goal", "door"]
    view = {"planes": planes, "n_actions": 6}
    seen = make_environment(world, "minigrid-egocentric-z2", view_kwargs=view)
    mirror = build_symmetry("minigrid-egocentric-z2", (4, 7, 7), 6)
    save_symmetry(mirror, "mirror.toml", view=view_table(seen))
    assert make_environment(world, "mirror.toml").observation_space == seen.observation_space
    few = ["--transitions", "20", "--no-starts"]
    assert "holds as far as checked" in done("check", world, "--symmetry", "mirror.toml", *few).out
    options = ["--env", world, "--symmetry", "mirror.toml", "--method", "equitune", "-n", "60", *SHORT]
    assert "equivariant under mirror.toml" in done("train", *options, "-params", "learning_starts:20").out
    enjoyed = done("enjoy", "--env", world, "--no-render", "-n", "20")  # the run keeps the view
    assert "Loading" in enjoyed.out
    # Without a table the symmetry's name tells the view, and the command its settings.
    save_symmetry(mirror, "bare.toml")
    given = ["--view-kwargs", f"planes:{planes}", "n_actions:6"]
    assert "holds as far as checked" in done("check", world, "--symmetry", "bare.toml", *few, *given).out
    for file, told in (
        ("bare.toml", "acts on observations \\[4, 7, 7\\], but the observation space has \\[18, 7, 7\\]"),
        ("pole.toml", "its symmetries are minigrid-c4, .* or a file whose table \\[view\\] says"),
        ("wrong.toml", "view 'EgocentricVeiw' is unknown; known: .* Did you mean 'EgocentricView'"),
    ):
        Path("wrong.toml").write_text(Path("mirror.toml").read_text().replace("EgocentricView", "EgocentricVeiw"))
        refused = here("check", world, "--symmetry", file)
        assert refused.status == 2
        assert re.search(told, refused.err[-1]), refused.err


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
