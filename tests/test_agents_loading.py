import base64
import json
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO

from equirl.agents import load_agent, symmetrize_agent

AGENTS = {"dqn": DQN, "qrdqn": QRDQN, "ppo": PPO, "a2c": A2C}


def _saved(name: str, path: Path) -> Any:
    settings: dict[str, Any] = {"buffer_size": 10} if "dqn" in name else {"n_steps": 8}
    model = AGENTS[name]("MlpPolicy", "CartPole-v1", seed=0, device="cpu", **settings)  # type: ignore[call-arg]
    model.save(path)
    return model


def _changed(path: Path, change: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(files["data"])
    change(data)
    files["data"] = json.dumps(data).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _pickled_as_gym(thing: Any) -> dict[str, Any]:
    """What a space looks like in a file of the gym era: a pickle that names a module which is not installed."""
    module = types.ModuleType("gym.spaces.elsewhere")
    made = type("Box", (), {"__module__": module.__name__})
    module.Box = made  # type: ignore[attr-defined]
    sys.modules.update(
        {"gym": types.ModuleType("gym"), "gym.spaces": types.ModuleType("gym.spaces"), module.__name__: module}
    )
    try:
        old = made()
        vars(old).update({"low": getattr(thing, "low", None), "n": getattr(thing, "n", None)})
        return {
            ":type:": "<class 'gym.spaces.box.Box'>",
            ":serialized:": base64.b64encode(cloudpickle.dumps(old)).decode(),
        }
    finally:
        for name in ("gym", "gym.spaces", module.__name__):
            del sys.modules[name]


def _make_old(data: dict[str, Any]) -> None:
    for key in ("observation_space", "action_space"):
        data[key] = _pickled_as_gym(cloudpickle.loads(base64.b64decode(data[key][":serialized:"])))
    # Schedules were closures, whose bytecode no other Python reads; here, bytes that stop too early.
    data["lr_schedule"] = {":type:": "<class 'function'>", ":serialized:": base64.b64encode(b"\x80\x04\x95").decode()}
    data["remove_time_limit_termination"] = False


@pytest.mark.parametrize("name", AGENTS)
def test_agents_of_the_gym_era_open_without_gym(name: str, tmp_path: Path) -> None:
    model = _saved(name, tmp_path / "old.zip")
    _changed(tmp_path / "old.zip", _make_old)
    environment = gym.make("CartPole-v1")
    with pytest.raises(ImportError, match="gym"):
        AGENTS[name].load(tmp_path / "old.zip", env=environment)  # SB3's own
    loaded = load_agent(tmp_path / "old.zip", environment)
    assert type(loaded) is AGENTS[name]
    assert isinstance(loaded.observation_space, spaces.Box)
    observations = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    expected = model.predict(observations, deterministic=True)[0]
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    loaded.learn(20)
    symmetrize_agent(loaded, "cartpole-z2").save(tmp_path / "new.zip")
    AGENTS[name].load(tmp_path / "new.zip")
    assert "gym" not in sys.modules
    with pytest.raises(ValueError, match=r"_space in .*old.zip cannot be read .* load_agent\(path, env\)"):
        load_agent(tmp_path / "old.zip")


@pytest.mark.parametrize("name", AGENTS)
def test_the_algorithm_is_told_from_the_file(name: str, tmp_path: Path) -> None:
    _saved(name, tmp_path / "agent.zip")
    assert type(load_agent(tmp_path / "agent.zip")) is AGENTS[name]


def test_what_was_replaced_by_a_default_is_said(tmp_path: Path) -> None:
    _saved("ppo", tmp_path / "old.zip")
    broken = {":type:": "x", ":serialized:": base64.b64encode(b"\x80\x04\x95").decode()}
    _changed(tmp_path / "old.zip", lambda data: data.update(clip_range=broken))
    with pytest.warns(UserWarning, match="replaced by defaults: clip_range"):
        loaded = load_agent(tmp_path / "old.zip", gym.make("CartPole-v1"))
    assert loaded.clip_range(1.0) == 0.2  # type: ignore[attr-defined]


def test_mistakes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    _saved("dqn", path)
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="there is no agent at"):
        load_agent(tmp_path / "none.zip")
    path.write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"agent.zip is not a zip file, or a part of it is missing"):
        load_agent(path)
    path.write_bytes(whole[: len(whole) // 2])  # the weights inside are zip files of their own
    with pytest.raises(ValueError, match="or only a part of one"):
        load_agent(path)
    path.write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"agent.zip is not a zip file"):
        load_agent(path)
    middle = whole.index(b"policy.pth") + 400
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    with pytest.raises(ValueError, match=r"policy.pth does not match its checksum"):
        load_agent(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no agent")
    with pytest.raises(ValueError, match="holds no Stable-Baselines3 agent"):
        load_agent(path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="The agent was trained on the first and the environment gives the second"):
        load_agent(path, gym.make("Acrobot-v1"))
    with pytest.raises(ValueError, match="algorithm 'sac' is unknown"):
        load_agent(path, algorithm="sac")
    _changed(
        path, lambda data: data["policy_class"].update({":serialized:": base64.b64encode(b"\x80\x04\x95").decode()})
    )
    with pytest.raises(ValueError, match=r"the policy_class in .* cannot be read"):
        load_agent(path)


def test_files_of_other_algorithms_are_told_apart(tmp_path: Path) -> None:
    from sb3_contrib import TRPO
    from stable_baselines3 import SAC

    TRPO("MlpPolicy", "CartPole-v1", device="cpu").save(tmp_path / "trpo.zip")
    SAC("MlpPolicy", "Pendulum-v1", device="cpu", buffer_size=10).save(tmp_path / "sac.zip")
    for name in ("trpo", "sac"):
        with pytest.raises(ValueError, match="of none of the algorithms"):
            load_agent(tmp_path / f"{name}.zip")
