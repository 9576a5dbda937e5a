"""``equirl export AGENT -o FOLDER``, and the commands that take such a folder where they take an agent's file."""

import sys
import types
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import yaml
from command_line import SHORT, done, here
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env

from equirl import MDPSymmetry, dihedral_group, signed_permutation_representation
from equirl.agents import (
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantMaskablePolicy,
    SymmetricVecNormalize,
    load_agent,
    load_normalization,
    save_agent_folder,
)
from equirl.agents.agent_card import AgentCard
from equirl.agents.open_folder import read_card
from equirl.envs import make_environment
from equirl.symmetry_files import save_symmetry

MaskablePPO: Any = pytest.importorskip("sb3_contrib").MaskablePPO


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_card_of_a_run_tells_how_it_was_trained(work: Path) -> None:
    settings = ["--env-kwargs", "size:4", "-params", "learning_starts:20", "n_timesteps:60", "n_envs:1"]
    done("train", *settings, *SHORT)
    run = next(work.glob("logs/dqn/*_1"))
    (agent,) = run.glob("*.zip")
    out = done("export", str(agent), "-o", "shared", "--episodes", "3").out
    assert "Measuring 3 episodes in equirl/GridWorld-v0" in out
    card = read_card("shared")
    assert card.environment == "equirl/GridWorld-v0"
    assert card.environment_kwargs == {"size": 4}
    assert card.hyperparameters["gamma"] == str(yaml.unsafe_load(next(run.glob("*/config.yml")).read_text())["gamma"])
    assert card.evaluation is not None
    assert card.evaluation.n_episodes == 3
    assert done("enjoy", "--run", "shared", "-n", "20", "--no-render").out.count("Loading shared") == 1
    done("export", "shared", "-o", "again")
    assert read_card("again") == card
    done("record", "--run", "shared", "-n", "5", "-o", "videos")
    assert list((work / "videos").glob("*.mp4"))


def test_commands_take_a_folder_for_an_agent(work: Path) -> None:
    plain = DQN("MlpPolicy", "CartPole-v1", buffer_size=50, policy_kwargs={"net_arch": [8]}, seed=0).learn(20)
    save_agent_folder(plain, "plain")
    cartpole = ["--env", "CartPole-v1", "--symmetry", "cartpole-z2"]
    done("symmetrize", "plain", *cartpole, "-o", "symmetric.zip")
    assert load_agent("symmetric.zip").policy_kwargs["symmetry"].name == "cartpole-z2"
    assert "equitune" in done("audit", "plain", *cartpole, "--episodes", "2", "--states", "20", "--n-envs", "1").out
    done("check", "CartPole-v1", "--symmetry", "cartpole-z2", "--agent", "plain", "--transitions", "20", "--no-starts")
    assert (
        "not enough data, after 300 steps" in here("discover", "CartPole-v1", "--agent", "plain", "--steps", "300").out
    )
    done("export", "symmetric.zip", "-o", "symmetric", "--env", "CartPole-v1")
    assert read_card("symmetric").environment == "CartPole-v1"


def test_normalised_and_masked_agents_act_from_a_folder(work: Path) -> None:
    env = SymmetricVecNormalize(make_vec_env("Pendulum-v1"), "pendulum-z2")
    arguments: dict[str, Any] = {"symmetry": "pendulum-z2", "net_arch": [4]}
    ppo = PPO(EquivariantActorCriticPolicy, env, n_steps=16, batch_size=16, policy_kwargs=arguments, device="cpu")
    save_agent_folder(ppo.learn(32), "pendulum", card=AgentCard("Pendulum-v1"))
    assert "Mean reward" in done("enjoy", "--run", "pendulum", "-n", "250", "--no-render").out
    done("export", "pendulum", "-o", "again")
    world = make_vec_env("Pendulum-v1")
    kept = [load_normalization(name, world) for name in ("pendulum", "again")]
    assert kept[0].norm_obs
    assert np.array_equal(kept[0].obs_rms.mean, kept[1].obs_rms.mean)  # type: ignore[union-attr]
    arguments = {"symmetry": "board-d4", "net_arch": [4]}
    game = gym.make("equirl/TicTacToe-v0")
    masked = MaskablePPO(EquivariantMaskablePolicy, game, n_steps=16, policy_kwargs=arguments, device="cpu")
    save_agent_folder(masked, "game", card=AgentCard("equirl/TicTacToe-v0"))
    assert "Mean reward" in done("enjoy", "--run", "game", "-n", "30", "--no-render").out


def test_a_normalised_agent_with_a_symmetry_of_the_users_own_is_exported(work: Path) -> None:
    group, stays = dihedral_group(1), [[0, 1, 2], [0, 1, 2]]
    states = signed_permutation_representation(group, stays, [[1, 1, 1], [1, -1, -1]])
    torques = signed_permutation_representation(group, [[0], [0]], [[1], [-1]])
    save_symmetry(MDPSymmetry("nobody-knows-it", states, torques), work / "swing.toml")
    settings = ["--algo", "ppo", "--env", "Pendulum-v1", "--symmetry", "swing.toml", "--method", "equitune", "-n", "64"]
    done("train", *settings, *SHORT, "-params", "n_steps:32", "batch_size:32", "n_envs:1", "normalize:True")
    run = Path("logs/ppo/Pendulum-v1_1")
    done("export", str(run / "Pendulum-v1.zip"), "-o", "own", "--episodes", "1")
    world = make_vec_env("Pendulum-v1")
    statistics: Any = load_normalization("own", world)
    assert statistics.obs_rms.mean[0] != 0
    assert np.abs(statistics.obs_rms.mean[1:]).max() < 1e-9
    assert "Mean reward" in done("enjoy", "--run", "own", "-n", "250", "--no-render").out


def test_a_minigrid_agent_is_seen_through_its_view(work: Path) -> None:
    settings = {"planes": ["wall", "goal"], "n_actions": 3}
    world = make_environment("MiniGrid-Empty-5x5-v0", "minigrid-egocentric-z2", view_kwargs=settings)
    arguments: dict[str, Any] = {"symmetry": "minigrid-egocentric-z2", "net_arch": [4]}
    agent = DQN(EquivariantDQNPolicy, world, buffer_size=10, policy_kwargs=arguments)
    save_agent_folder(agent, "empty", card=AgentCard("MiniGrid-Empty-5x5-v0", view_kwargs=settings))
    assert "Mean reward" in done("enjoy", "--run", "empty", "-n", "110", "--no-render").out
    done("export", "empty", "-o", "again", "--episodes", "1")
    assert read_card("again").view_kwargs == settings


def test_mistakes_are_told_before_any_work(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"symmetry": "cartpole-z2", "net_arch": [4]}
    agent = DQN(EquivariantDQNPolicy, "CartPole-v1", buffer_size=10, policy_kwargs=arguments)
    agent.save("agent.zip")
    (work / "mine").mkdir()
    (work / "mine" / "notes.txt").write_text("mine")

    def told(*arguments: str) -> str:
        outcome = here("export", *arguments)
        assert outcome.status == 2, outcome
        (line,) = outcome.err
        return line

    assert "mine holds something else than an agent" in told("agent.zip", "-o", "mine")
    assert "--episodes needs the environment: --env ENV" in told("agent.zip", "-o", "out", "--episodes", "2")
    assert "--episodes is for a folder; out.pt2 is a file" in told("agent.zip", "-o", "out.pt2", "--episodes", "2")
    assert "--push takes USER/NAME" in told("agent.zip", "-o", "out", "--push", "agent")
    assert "ending of an output '.txt' is unknown" in told("agent.zip", "-o", "out.txt")
    assert "there is no file 'none'" in told("none", "-o", "out")
    assert not (work / "out").exists()

    class Api:
        def create_repo(self, repository: str, exist_ok: bool) -> str:
            assert exist_ok
            if repository != "me/agent":
                raise ConnectionError("no network")
            return f"https://hub/{repository}"

        def upload_folder(self, **given: Any) -> None:
            assert given["repo_id"] == "me/agent"
            assert "agent.json" in given["allow_patterns"]

    hub = types.ModuleType("huggingface_hub")
    hub.HfApi = Api  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert "Pushed: https://hub/me/agent" in done("export", "agent.zip", "-o", "out", "--push", "me/agent").out
    line = told("agent.zip", "-o", "out", "--push", "you/agent")
    assert "out is written, but not pushed to you/agent (ConnectionError: no network)" in line
    (work / "out" / "weights.safetensors").write_bytes(b"damaged")
    assert "weights.safetensors is no safetensors file, or is damaged" in told("out", "-o", "other")
