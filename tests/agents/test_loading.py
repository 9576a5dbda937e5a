import base64
import io
import json
import math
import sys
import types
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from warm_process import run_python

from equirl import (
    MDPSymmetry,
    cyclic_group,
    permutation_representation,
    register_symmetry,
    signed_permutation_representation,
)
from equirl.agents import (
    EquivariantDQNPolicy,
    SymmetryReplayBuffer,
    SymmetryRolloutBuffer,
    load_agent,
    symmetrize_agent,
)
from equirl.agents.loading import ALGORITHMS
from equirl.symmetry import save_symmetry

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
    with pytest.raises(ValueError, match="algorithm 'ars' is unknown"):
        load_agent(path, algorithm="ars")
    _changed(
        path, lambda data: data["policy_class"].update({":serialized:": base64.b64encode(b"\x80\x04\x95").decode()})
    )
    with pytest.raises(ValueError, match=r"the policy_class in .* cannot be read"):
        load_agent(path)


def _flipped(content: bytes, random: Random) -> bytes:
    changed = bytearray(content)
    for _ in range(random.choice([1, 3, 30])):
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _damaged(whole: bytes, random: Random) -> bytes:
    """Return an agent's file damaged in one of the ways in which files get damaged, or are of somebody else."""
    if (how := random.randrange(7)) == 0:
        return _flipped(whole, random)
    if how == 1:
        return whole[: random.randrange(len(whole))]
    if how == 2:
        at = random.randrange(len(whole))
        return whole[:at] + random.randbytes(random.randrange(1, 50)) + whole[at:]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    if how == 3:
        name = random.choice(list(files))
        contents = [b"", b"null", b"[]", b"5", "ä".encode("latin-1"), b"{}", b"\xff\xfe{\x00", b"[" * 100_000]
        files[name] = random.choice([*contents, files[name][:-1], _flipped(files[name] or b"0", random)])
    elif how == 4:
        name = random.choice(["policy.pth", "policy.optimizer.pth", "pytorch_variables.pth"])
        content = io.BytesIO()
        torch.save(
            random.choice([None, {}, [], 5, {"x": torch.ones(2)}, {"q_net.q_net.0.weight": torch.ones(3)}]), content
        )
        files[name] = content.getvalue()
    elif how == 5:
        del files[random.choice(list(files))]
    else:
        data = json.loads(files["data"])
        for name in random.sample(list(data), 3):
            pickled = [{":serialized:": given} for given in (5, "@@", base64.b64encode(b"\x80\x04K\x05.").decode())]
            data[name] = random.choice([None, -1, math.nan, "x", [], {}, 10**30, *pickled])
        name = random.choice(
            [name for name, entry in data.items() if isinstance(entry, dict) and ":serialized:" in entry]
        )
        if isinstance(text := data[name][":serialized:"], str) and len(text) > 4:
            data[name][":serialized:"] = base64.b64encode(_flipped(base64.b64decode(text), random)).decode()
        files["data"] = json.dumps(data).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression=random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, content_ in files.items():
            archive.writestr(name, content_)
    return packed.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    """Whatever is damaged: an agent that acts, or a ValueError of one line that names the file."""
    _saved(name, tmp_path / "whole.zip")
    whole, path = (tmp_path / "whole.zip").read_bytes(), tmp_path / "damaged.zip"
    refused: dict[int, str] = {}
    for seed in range(200):
        path.write_bytes(_damaged(whole, Random(seed)))
        try:
            load_agent(path, device="cpu").predict(np.zeros(4, dtype=np.float32))
        except ValueError as error:
            refused[seed] = str(error)
    assert 100 < len(refused) < 200
    assert not {seed: said for seed, said in refused.items() if "damaged.zip" not in said or "\n" in said}
    assert load_agent(tmp_path / "whole.zip", device="cpu").action_space.n == 2


def test_what_is_no_agent_is_named(tmp_path: Path) -> None:
    path = tmp_path / "agent.zip"
    _saved("ppo", path)
    assert type(load_agent(tmp_path / "agent")) is PPO  # as SB3's load takes it
    with pytest.raises(ValueError, match=r"agent.zip was saved by PPO, not by DQN: leave the algorithm out"):
        load_agent(path, algorithm="dqn")
    with pytest.raises(ValueError, match=r"device 'cudaa' cannot be used here .*there are: cpu"):
        load_agent(path, device="cudaa")
    with pytest.raises(ValueError, match="device 'meta' cannot be used"):
        load_agent(path, device="meta")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="folder is a folder, not an agent"):
        load_agent(tmp_path / "folder")
    with pytest.raises(FileNotFoundError, match=r"cannot be looked up \(File name too long"):
        load_agent("a" * 5000)
    _changed(path, lambda data: data.update(gamma="0.99"))
    with pytest.raises(ValueError, match=r"agent.zip holds gamma='0.99', where a finite number is due"):
        load_agent(path)
    model = _saved("dqn", path)
    with torch.no_grad():
        model.q_net.q_net[0].bias[0] = torch.nan
    model.save(path)
    with pytest.raises(ValueError, match=r"agent.zip holds no settings and weights .*q_net.0.bias are not finite"):
        load_agent(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data", "policy.pth"):
            archive.writestr(name, b'["settings"]')
    with pytest.raises(ValueError, match=r"agent.zip holds no settings: its `data` is a list"):
        load_agent(path)


def test_every_algorithm_is_told_from_its_file_and_others_are_refused(tmp_path: Path) -> None:
    for name, algorithm in ALGORITHMS.items():
        replay = {"buffer_size": 10} if issubclass(algorithm, OffPolicyAlgorithm) else {}
        discrete = name in ("dqn", "qrdqn", "ppo", "a2c", "trpo", "ppo_lstm", "ppo_mask")
        policy, world = "MlpPolicy", "CartPole-v1" if discrete else "Pendulum-v1"
        if name == "ppo_lstm":
            policy = "MlpLstmPolicy"
        algorithm(policy, world, device="cpu", **replay).save(tmp_path / f"{name}.zip")  # type: ignore[call-arg,arg-type]
        assert type(load_agent(tmp_path / f"{name}.zip")) is algorithm
    with pytest.raises(ValueError, match=r"saved by TQC, not by SAC"):
        load_agent(tmp_path / "tqc.zip", algorithm="sac")
    ARS("LinearPolicy", "CartPole-v1", device="cpu").save(tmp_path / "ars.zip")
    with pytest.raises(ValueError, match="of none of the algorithms"):
        load_agent(tmp_path / "ars.zip")


def test_agents_carry_a_symmetry_of_the_users_own(tmp_path: Path) -> None:
    """They load in a process that has registered nothing, whether it came by name or by file."""
    mirror = cyclic_group(2)
    pole = MDPSymmetry(
        "carried-pole",
        signed_permutation_representation(mirror, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4]),
        permutation_representation(mirror, [[0, 1], [1, 0]]),
    )
    register_symmetry("carried-pole", lambda shape, n_actions: pole)
    save_symmetry(pole, tmp_path / "pole.toml")
    for number, given in enumerate(("carried-pole", str(tmp_path / "pole.toml"))):
        settings = {"symmetry": given}
        DQN(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs=settings, buffer_size=10).save(
            tmp_path / f"{number}.zip"
        )
        assert settings == {"symmetry": given}
    plain: Any = {"policy": "MlpPolicy", "env": "CartPole-v1"}
    augmented = {"replay_buffer_class": SymmetryReplayBuffer, "replay_buffer_kwargs": {"symmetry": "carried-pole"}}
    DQN(**plain, **augmented, buffer_size=10).save(tmp_path / "buffer.zip")
    mirrored = {"rollout_buffer_class": SymmetryRolloutBuffer, "rollout_buffer_kwargs": {"symmetry": "carried-pole"}}
    PPO(**plain, **mirrored, n_steps=8, batch_size=8).save(tmp_path / "rollout.zip")
    (tmp_path / "pole.toml").unlink()
    program = (
        "from stable_baselines3 import DQN, PPO\nfrom equirl.agents import load_agent\n"
        "DQN.load('buffer.zip').replay_buffer.symmetry, PPO.load('rollout.zip').rollout_buffer.symmetry\n"
        "for name in ('0.zip', '1.zip'):\n"
        "    print(DQN.load(name).policy_kwargs['symmetry'].name, load_agent(name).policy_kwargs['symmetry'].name)"
    )
    run = run_python("-c", program, cwd=tmp_path)
    assert run.stdout.split() == ["carried-pole"] * 4, run.stderr
