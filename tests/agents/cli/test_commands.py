"""Help, lists, plots; and what ``equirl audit`` and ``symmetrize`` take over from the run of an agent."""

import pickle
import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_line import SHORT, done, here, in_process
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents.cli import main

SHORT_FIT = ["--states", "60", "--fit-steps", "5"]  # of λ


def test_help_is_short_and_version_is_told(tmp_path: Path) -> None:
    overview = in_process(cwd=tmp_path, fresh=True)
    assert overview == done("--help").out
    commands = re.findall(r"^  (\w+)  +\S", overview, flags=re.MULTILINE)
    assert {"train", "enjoy", "plot", "record", "envs", "symmetrize", "audit", "study"} <= set(commands)
    for command in ("train", "enjoy", "plot", "record", "study"):
        text = done(command, "--help").out
        assert text.startswith("usage: equirl")
        assert len(text.splitlines()) < 45
        assert "example" in text
    assert re.fullmatch(r"equirl \d+\.\d+\.\d+\n", done("--version").out)
    assert "--n-startup-trials" in done("train", "--help-all").out
    assert "--load-last-checkpoint" in done("enjoy", "--help-all").out
    assert "--episode-window" in done("plot", "--help-all").out


def test_envs_lists_groups() -> None:
    output = done("envs").out
    assert re.search(r"equirl/GridWorld-v0 +grid-d4 +D4 +8 +\[3, 7, 7\] +4", output)
    assert re.search(r"equirl/GridWorld-v0 +grid-c4 +C4 +4", output)
    path = Path(output.strip().splitlines()[-1].split(": ")[1])
    assert "equirl/GridWorld-v0" in yaml.safe_load(path.read_text())


def _run_of(folder: Path, episodes: int, success: bool = False) -> None:
    folder.mkdir(parents=True)
    rewards = np.random.default_rng(0).uniform(10, 50, episodes)
    rows = [f"{reward:.1f},20,{time:.1f}{',True' if success else ''}\n" for time, reward in enumerate(rewards)]
    header = '#{"t_start": 0.0, "env_id": "CartPole-v1"}\n' + ("r,l,t,is_success\n" if success else "r,l,t\n")
    (folder / "0.monitor.csv").write_text(header + "".join(rows))


def test_plot_names_the_runs_that_it_leaves_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logs = tmp_path / "logs/dqn"
    _run_of(logs / "CartPole-v1_1", 300)
    _run_of(logs / "CartPole-v1_2", 40)
    _run_of(logs / "CartPole-v1_3", 0)
    _run_of(logs / "CartPole-v1_4", 200, success=True)
    plot = ["plot", "-e", "CartPole-v1", "-o", "curves.png"]
    told = done(*plot).out
    assert "CartPole-v1_2 has 40 episodes, fewer than the rolling window of 100" in told
    assert "CartPole-v1_3 has no monitor file with episodes" in told
    assert "Drawn: CartPole-v1_1, n = 1: CartPole-v1_1" in told  # nothing tells what it trained
    assert "Drawn: CartPole-v1_2" in done(*plot, "-w", "10").out
    assert "CartPole-v1_1 does not report success" in done(*plot, "-y", "success").out
    none = here(*plot, "-w", "10", "-max", "119")
    assert none.status == 2
    assert "CartPole-v1_2 has 5 episodes, fewer than the rolling window of 10" in none.out
    assert here(*plot, "-w", "500").status == 2
    (logs / "CartPole-v1_1/0.monitor.csv").write_text("#{broken\n")
    damaged = here(*plot)
    assert damaged.status == 2
    assert "CartPole-v1_1 cannot be read" in damaged.err[-1]


def test_plot_takes_a_smaller_window_where_all_runs_are_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _run_of(tmp_path / "logs/dqn/equirl-EmptyRoom-v0_1", 20, success=True)
    told = done("plot", "-e", "equirl/EmptyRoom-v0", "-o", "curves.png").out
    assert "the rolling window is 4 episodes" in told
    assert "Left out" not in told


def _saved_in_the_gym_era(environments: VecNormalize, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("gym", "gym.spaces", "gym.spaces.box", "gym.spaces.discrete"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for kind, module in ((spaces.Box, "gym.spaces.box"), (spaces.Discrete, "gym.spaces.discrete")):
        old = type(kind.__name__, (kind,), {"__module__": module})
        monkeypatch.setattr(sys.modules[module], kind.__name__, old, raising=False)
        space: Any = environments.observation_space if kind is spaces.Box else environments.action_space
        space.__class__ = old
    environments.save(str(path))
    for name in ("gym", "gym.spaces", "gym.spaces.box", "gym.spaces.discrete"):
        monkeypatch.delitem(sys.modules, name)


def test_statistics_of_any_age_are_read_and_must_be_symmetric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environments = VecNormalize(make_vec_env("CartPole-v1", 1, seed=0))
    environments.reset()
    for _ in range(30):
        environments.step([environments.action_space.sample()])
    PPO("MlpPolicy", environments, device="cpu", seed=0).save("agent.zip")
    _saved_in_the_gym_era(environments, tmp_path / "old.pkl", monkeypatch)
    agent = ["agent.zip", "--env", "CartPole-v1", "--symmetry", "cartpole-z2", "--vecnormalize", "old.pkl"]
    wrong = here("audit", *agent, "--episodes", "1", "--states", "20", "--n-envs", "1")
    assert wrong.status == 2
    assert len(wrong.err) == 1
    assert re.search(r"statistics in old.pkl are not symmetric .* --symmetrize-statistics", wrong.err[0])

    done("audit", *agent, "--symmetrize-statistics", "--episodes", "1", "--states", "20", "--n-envs", "1")
    told = done("symmetrize", *agent, "--symmetrize-statistics", "-o", "symmetric.zip", *SHORT_FIT).out
    assert "Its statistics, without which it sees other observations: symmetric-vecnormalize.pkl" in told
    with Path("symmetric-vecnormalize.pkl").open("rb") as file:
        saved = pickle.load(file)
    np.testing.assert_allclose(saved.obs_rms.mean, 0, atol=1e-12)  # of x and -x


def test_an_audit_looks_at_the_world_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["-params", "n_steps:16", "n_envs:2"]
    done("train", "--algo", "ppo", "--env", "Acrobot-v1", "-n", "40", *SHORT, *small)  # rl_zoo3's file normalises
    agent = ["logs/ppo/Acrobot-v1_1/Acrobot-v1.zip", "--env", "Acrobot-v1", "--symmetry", "acrobot-z2"]
    audit = ["audit", *agent, "--episodes", "1", "--states", "20", "--n-envs", "1"]
    wrong = here(*audit)
    assert wrong.status == 2
    assert "vecnormalize.pkl are not symmetric under acrobot-z2" in wrong.err[-1]
    told = done(*audit, "--symmetrize-statistics").out
    assert "As in the run: --vecnormalize logs/ppo/Acrobot-v1_1/Acrobot-v1/vecnormalize.pkl" in told
    Path("logs/ppo/Acrobot-v1_1/Acrobot-v1/vecnormalize.pkl").unlink()
    assert "its statistics are not at" in here(*audit).err[-1]

    done("train", "--method", "plain", "--env-kwargs", "size:4", "-n", "40", *SHORT)
    agent = ["logs/dqn/equirl-GridWorld-v0_1/equirl-GridWorld-v0.zip", "--env", "equirl/GridWorld-v0"]
    told = done("symmetrize", *agent, "--symmetry", "grid-c4", "-o", "symmetric.zip", *SHORT_FIT).out
    assert "As in the run: --env-kwargs {'size': 4}" in told
    assert DQN.load("symmetric.zip").observation_space.shape == (3, 4, 4)


def test_errors_of_any_kind_are_one_line_unless_the_traceback_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Any) -> int:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("equirl.agents.cli.environments.main", fail)
    assert main(["envs"]) == 2
    told = capsys.readouterr().err
    assert told == "equirl envs: ZeroDivisionError: division by zero (EQUIRL_TRACEBACK=1 shows where)\n"
    monkeypatch.setenv("EQUIRL_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError, match="by zero"):
        main(["envs"])
