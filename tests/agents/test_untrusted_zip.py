"""Zips of agents that are not trusted: weights and plain data alone are read, and little memory is taken."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import cloudpickle
import gymnasium as gym
import pytest
import torch
from pole_agents import OBSERVATIONS, POLE, OwnExtractor, pole_agent, same
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.torch_layers import FlattenExtractor

from equirl import (
    MDPSymmetry,
    permutation_representation,
)
from equirl.agents import (
    load_agent,
    policy_with,
)


def test_a_zip_that_is_not_trusted_is_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = gym.make("CartPole-v1")
    tanh = {"activation_fn": torch.nn.ELU, "net_arch": [8]}
    named, own = pole_agent("cartpole-z2"), pole_agent(POLE)
    plain = PPO("MlpPolicy", env, n_steps=8, policy_kwargs=tanh, device="cpu")
    built_in = DQN(policy_with("cartpole-z2", "equizero"), env, buffer_size=10, device="cpu")
    extractor = DQN("MlpPolicy", env, policy_kwargs={"features_extractor_class": OwnExtractor}, buffer_size=10)
    for name, model in {"named": named, "own": own, "plain": plain, "built": built_in, "extractor": extractor}.items():
        model.save(tmp_path / name)
    monkeypatch.setattr(cloudpickle, "loads", lambda *_: pytest.fail("a pickle is read"))
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a pickle is read"))
    with pytest.raises(ValueError, match=r"spaces in .*named.zip are pickled.*load_agent\(path, env, trusted=False\)"):
        load_agent(tmp_path / "named", trusted=False)
    for name, model in {"named": named, "plain": plain, "built": built_in}.items():
        same(load_agent(tmp_path / name, env, device="cpu", trusted=False), model, OBSERVATIONS)
    with pytest.raises(ValueError, match=r"symmetry in .*own.zip is pickled.*symmetry=\.\.\."):
        load_agent(tmp_path / "own", env, trusted=False)
    same(load_agent(tmp_path / "own", env, device="cpu", trusted=False, symmetry=POLE), own, OBSERVATIONS)
    with pytest.raises(ValueError, match=r"policy argument features_extractor_class in .*extractor.zip is pickled"):
        load_agent(tmp_path / "extractor", env, trusted=False)
    given = {"features_extractor_class": FlattenExtractor}
    load_agent(tmp_path / "extractor", env, trusted=False, policy_kwargs=given)
    with pytest.raises(ValueError, match="these weights were saved with the group"):
        load_agent(tmp_path / "named", env, trusted=False, policy_kwargs={"symmetry": _swapped()})
    with pytest.raises(ValueError, match=r"its observation_space has shape \[4\], and the environment's has \[6\]"):
        load_agent(tmp_path / "named", gym.make("Acrobot-v1"), trusted=False)
    with pytest.raises(ValueError, match="without a symmetry"):
        load_agent(tmp_path / "plain", env, trusted=False, symmetry=POLE)
    with pytest.raises(ValueError, match="symmetry and policy_kwargs are for"):
        load_agent(tmp_path / "plain", env, symmetry=POLE)


def _swapped() -> MDPSymmetry:
    return MDPSymmetry("kept", POLE.observation, permutation_representation(POLE.group, [[0, 1], [0, 1]]))


@pytest.mark.parametrize("trusted", [True, False])
def test_inflated_zips_take_no_memory(trusted: bool, tmp_path: Path) -> None:
    pole_agent("cartpole-z2").save(tmp_path / "agent.zip")
    with zipfile.ZipFile(tmp_path / "agent.zip") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"])
    data["policy_kwargs"] = {"symmetry": "cartpole-z2", "method": "equitune", "net_arch": [10**6, 10**6]}

    def written(changed: dict[str, bytes], packed: int = zipfile.ZIP_STORED) -> None:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", packed) as archive:
            for name, member in {**members, **changed}.items():
                archive.writestr(name, member)
        (tmp_path / "agent.zip").write_bytes(content.getvalue())

    env = gym.make("CartPole-v1")
    written({"data": json.dumps(data).encode()})
    with pytest.raises(ValueError, match=r"agent.zip holds no .*many times larger than its weights"):
        load_agent(tmp_path / "agent.zip", env, trusted=trusted)
    written({"policy.pth": members["policy.pth"] + bytes(65 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match=r"agent.zip has a member policy.pth of .* bytes, packed into"):
        load_agent(tmp_path / "agent.zip", env, trusted=trusted)
