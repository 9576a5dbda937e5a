"""Agents with hindsight experience replay: they open without their environment, to act, and learn with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import done
from stable_baselines3 import SAC
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from equirl import MappingRepresentation, MDPSymmetry, dihedral_group, permutation_representation
from equirl.agents import EquivariantSACPolicy, load_agent, save_agent_folder, symmetrize_agent

_SWAP = permutation_representation(dihedral_group(1), [[0, 1, 2, 3], [1, 0, 2, 3]])
_SYMMETRY = MDPSymmetry(
    "bits", MappingRepresentation({key: _SWAP for key in ("observation", "achieved_goal", "desired_goal")}), _SWAP
)


class Bits(BitFlippingEnv):
    """SB3's bits with a goal; the flips are the numbers of an action."""

    def __init__(self) -> None:
        super().__init__(n_bits=4, continuous=True, max_steps=4)


def _agent(policy: Any, **policy_kwargs: Any) -> SAC:
    settings: dict[str, Any] = {"learning_starts": 10, "buffer_size": 200, "batch_size": 16}
    agent = SAC(policy, Bits(), replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs={"n_sampled_goal": 2},
                policy_kwargs={"net_arch": [8], **policy_kwargs}, device="cpu", seed=0, **settings)  # fmt: skip
    return agent.learn(30)


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_they_open_without_their_environment_to_act(kind: str, tmp_path: Path) -> None:
    agent = _agent(EquivariantSACPolicy, symmetry=_SYMMETRY, method="canonical")
    path = tmp_path / ("agent.zip" if kind == "zip" else "agent")
    if kind == "zip":
        agent.save(path)
    else:
        save_agent_folder(agent, path)
    loaded: Any = load_agent(path)
    observation, _ = Bits().reset(seed=3)
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], agent.predict(observation, deterministic=True)[0]
    )
    loaded.set_env(Bits())
    with pytest.raises(ValueError, match=r"hindsight experience replay.*load_agent\(path, env\)"):
        loaded.learn(30)
    whole: Any = load_agent(path, Bits())
    assert isinstance(whole.replay_buffer, HerReplayBuffer)
    before = whole.policy.state_dict()["actor.mu.weight"].clone()
    whole.learn(30)
    assert not torch.equal(whole.policy.state_dict()["actor.mu.weight"], before)


def test_one_that_only_acts_is_symmetrized_and_says_that_it_has_no_states(tmp_path: Path) -> None:
    _agent("MultiInputPolicy").save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent.zip")
    assert isinstance(symmetrize_agent(loaded, _SYMMETRY).policy, EquivariantSACPolicy)
    with pytest.raises(ValueError, match="no replay buffer with states in it"):
        symmetrize_agent(loaded, _SYMMETRY, "lambda_equitune")


def test_the_commands_train_it_go_on_and_export_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "her_world.py").write_text(
        "import gymnasium as gym\nfrom stable_baselines3.common.envs import BitFlippingEnv\n"
        "gym.register('HerBits-v0', lambda: BitFlippingEnv(n_bits=4, continuous=True, max_steps=4))\n"
    )
    (tmp_path / "her.yml").write_text(
        "HerBits-v0:\n  policy: MultiInputPolicy\n  n_timesteps: 60\n  learning_starts: 20\n  batch_size: 16\n"
        "  replay_buffer_class: HerReplayBuffer\n  replay_buffer_kwargs: dict(n_sampled_goal=2)\n"
        "  policy_kwargs: dict(net_arch=[8])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    world = ("--algo", "sac", "--env", "HerBits-v0", "--gym-packages", "her_world", "-conf", "her.yml", "--eval-freq")
    world += ("-1",)
    assert "Final agent over" in done("train", *world, "--method", "plain").out
    trained = "logs/sac/HerBits-v0_1/HerBits-v0.zip"
    assert "Final agent over" in done("train", *world, "-i", trained).out
    done("export", trained, "-o", "folder")
    assert (tmp_path / "folder/agent.json").exists()
