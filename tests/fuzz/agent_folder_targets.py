"""Folders and zips of agents as the fuzzer damages them: refused, or equal to the last bit."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents import EquivariantDQNPolicy, load_agent, save_agent_folder
from equirl.agents.spaces import resolve_symmetry
from equirl.symmetry import MDPSymmetry
from fuzz.agents_at_hand import agent, environments
from fuzz.damage import replaced_in_zip
from fuzz.file_targets import FileTarget, saved

__all__ = ["FILES", "agent_folder_targets", "folder_of"]

FILES = ("agent.json", "weights.safetensors", "state.safetensors", "symmetry.toml")


@lru_cache
def _own() -> BaseAlgorithm:
    """Return a tiny agent with a symmetry that no process has registered."""
    env = environments()
    c4 = resolve_symmetry("grid-c4", env.observation_space, env.action_space)
    settings = {"net_arch": [8], "symmetry": MDPSymmetry("own-c4", c4.observation, c4.action), "method": "equitune"}
    return DQN(EquivariantDQNPolicy, env, seed=0, policy_kwargs=settings, buffer_size=64, learning_starts=8).learn(16)


@lru_cache
def folder_of(kind: str) -> dict[str, bytes]:
    """Return the files of a tiny agent's folder: ``"own"``, or a kind of ``agents_at_hand``."""
    with tempfile.TemporaryDirectory() as name:
        save_agent_folder(_own() if kind == "own" else agent(kind), name)
        return {path.name: path.read_bytes() for path in Path(name).iterdir()}


def _read_folder(kind: str, folder: Path) -> str:
    return _same(load_agent(folder / "agent", device="cpu"), _own() if kind == "own" else agent(kind))


def _read_zip(kind: str, folder: Path) -> str:
    return _same(load_agent(folder / "agent.zip", environments(1), device="cpu", trusted=False), agent(kind))


def _same(loaded: BaseAlgorithm, original: BaseAlgorithm) -> str:
    """Return the agent's class, if its answers are the original's to the last bit."""
    found, expected = loaded.policy.state_dict(), original.policy.state_dict()
    if found.keys() != expected.keys() or not all(torch.equal(found[name], expected[name]) for name in expected):
        raise RuntimeError("the agent loaded has other weights than the one that was saved")
    observations = original.observation_space.sample()
    if loaded.predict(observations, deterministic=True)[0] != original.predict(observations, deterministic=True)[0]:
        raise RuntimeError("the agent loaded answers otherwise than the one that was saved")
    return type(loaded).__name__


def _files(kind: str, first: str) -> dict[str, bytes]:
    """Return a folder's files, the one to be damaged first."""
    files = folder_of(kind)
    return {f"agent/{name}": files[name] for name in (first, *(each for each in files if each != first))}


def _odd(first: str, content: bytes) -> dict[str, bytes]:
    """Return what no general damage makes: files exchanged, and sizes inflated."""
    others = {name: folder_of("own")[name] for name in FILES if name != first}
    made = {f"{name} in its place": other for name, other in others.items()}
    if first in folder_of("equivariant"):
        made["that of another agent"] = folder_of("equivariant")[first]
        made["that of a plain agent"] = folder_of("dqn")[first]
    if first == "agent.json":
        about = json.loads(content)
        for label, change in {
            "huge layers": {"policy_kwargs": {**about["policy_kwargs"], "net_arch": [10**9]}},
            "a huge buffer": {"settings": {**about["settings"], "buffer_size": 10**15}},
            "another method": {"policy_kwargs": {**about["policy_kwargs"], "method": "canonical"}},
        }.items():
            made[label] = json.dumps({**about, **change}).encode()
    if first.endswith(".safetensors"):
        header_length = int.from_bytes(content[:8], "little")
        made["a huge header"] = (1 << 60).to_bytes(8, "little") + content[8:]
        made["a long header"] = (header_length + 8).to_bytes(8, "little") + content[8:]
        inflated = content[8 : 8 + header_length].replace(b'"shape":[', b'"shape":[1000000,', 1)
        made["a huge shape"] = len(inflated).to_bytes(8, "little") + inflated + content[8 + header_length :]
    return made


def _odd_zip(kind: str, content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(members["data"])
    data["policy_kwargs"] = {"net_arch": [10**9]}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in members.items():
            archive.writestr(name, member + b"\0" * (65 << 20) if name == "policy.pth" else member)
    return {
        "members exchanged": replaced_in_zip(content, {"policy.pth": members["data"], "data": members["policy.pth"]}),
        "optimizer for weights": replaced_in_zip(content, {"policy.pth": members["policy.optimizer.pth"]}),
        "huge layers": replaced_in_zip(content, {"data": json.dumps(data).encode()}),
        "a packed member": packed.getvalue(),
        "no weights": replaced_in_zip(content, {"policy.pth": None}),
    }


def agent_folder_targets() -> list[FileTarget]:
    """Return what reads folders of agents, and zips that are not trusted."""
    targets = [
        FileTarget(f"load_agent, folder, {name}", partial(_files, "own", name), partial(_read_folder, "own"), _of(name))
        for name in FILES
    ]
    targets += [
        FileTarget(
            f"load_agent, not trusted, {kind}",
            partial(_zip, kind),
            partial(_read_zip, kind),
            partial(_odd_zip, kind),
        )
        for kind in ("dqn", "ppo")
    ]
    return targets


def _of(name: str) -> Callable[[bytes], dict[str, bytes]]:
    return partial(_odd, name)


def _zip(kind: str) -> dict[str, bytes]:
    return {"agent.zip": saved(kind)}
