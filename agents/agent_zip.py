"""The zip that SB3's ``save`` writes: its members, its settings, and the algorithm that it is of."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.dqn.policies import DQNPolicy

from equirl.agents.algorithms import ALGORITHMS

__all__ = ["check_numbers", "one_line", "policy_bytes", "read_data", "told_algorithm"]

# What zipfile raises for damaged archives: bad structure, unknown compression, encryption, broken streams and names.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)

_LARGEST_DATA = 256 << 20
_LARGEST_PACKED = 64 << 20  # bytes from which on a member may not be packed as tightly as nothing but zeros is
_MOST_PACKED = 100


def read_data(path: Path) -> dict[str, Any]:
    """Return the settings in a zip, those that are pickled still so; every member is checked.

    Raises:
        ValueError: No zip, a damaged one, or one without an agent; the message names the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(path, archive)
            broken = archive.testzip()
            names = archive.namelist()
            text = archive.read("data") if broken is None and "data" in names else b""
    except _ZIP_ERRORS as error:
        if str(path) in str(error):
            raise
        raise ValueError(
            f"{path} is not a zip file, or a part of it is missing ({one_line(error)}); copy it again, or save the "
            "agent again"
        ) from error
    if broken is not None:
        raise ValueError(f"{path} is damaged: {broken} does not match its checksum; copy the file again")
    if not text or "policy.pth" not in names:
        raise ValueError(
            f"{path} holds no Stable-Baselines3 agent, or only a part of one (no data or policy.pth in it); give the "
            ".zip that save() wrote, and copy it again if it is that one"
        )
    try:
        data = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} holds no settings that can be read: its `data` is no JSON ({error}); copy the file again, or save "
            "the agent again"
        ) from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no settings: its `data` is a {type(data).__name__}, not a JSON object")
    return data


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise where a member would take much more memory than the file has bytes; SB3 packs nothing."""
    for member in archive.infolist():
        packed = member.file_size > max(_LARGEST_PACKED, _MOST_PACKED * member.compress_size)
        if packed or (member.filename == "data" and member.file_size > _LARGEST_DATA):
            raise ValueError(
                f"{path} has a member {member.filename} of {member.file_size:,} bytes, packed into "
                f"{member.compress_size:,}; no agent has such a one"
            )


def policy_bytes(path: Path) -> int:
    """Return the size of the weights of the policy in a zip that ``read_data`` has read."""
    with zipfile.ZipFile(path) as archive:
        return archive.getinfo("policy.pth").file_size


# A setting that only one algorithm has, and which algorithm that is. Later ones lack what earlier ones have.
_MARKS = (
    ("cg_max_steps", "trpo"),
    ("top_quantiles_to_drop_per_net", "tqc"),
    ("clip_range", "ppo"),
)


_KINDS_OF_PPO: tuple[tuple[str, type[Any], str], ...] = (
    ("ppo_lstm", RecurrentActorCriticPolicy, "recurrent"),
    ("ppo_mask", MaskableActorCriticPolicy, "maskable"),
)


def told_algorithm(path: Path, given: str | None, data: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return the algorithm that a file is of, told from the settings that only it has.

    Args:
        path: The file.
        given: The algorithm's name, if it is known.
        data: The file's settings.
        parts: Those that were pickled, read; none of a file that is not trusted.

    Raises:
        ValueError: Another algorithm than the given one, or none that is known.
    """
    policy = json.dumps(data.get("policy_class")).lower()
    told = next((name for mark, name in _MARKS if mark in data), None)
    policy_class = parts.get("policy_class")
    for name, kind, word in _KINDS_OF_PPO:
        if told == "ppo" and (word in policy or (isinstance(policy_class, type) and issubclass(policy_class, kind))):
            told = name
    if told is None and "exploration_fraction" in data:
        if isinstance(policy_class, type) and issubclass(policy_class, (DQNPolicy, QRDQNPolicy)):
            told = "qrdqn" if issubclass(policy_class, QRDQNPolicy) else "dqn"
        else:
            told = "qrdqn" if "qrdqn" in policy else given if given in ("dqn", "qrdqn") else "dqn"
    elif told is None and "target_entropy" in data:
        told = "crossq" if "policy_delay" in data else "sac"
    elif told is None and "policy_delay" in data:
        told = _td3_or_ddpg(data, given)
    elif told is None and "ent_coef" in data and "n_steps" in data:
        told = "a2c"
    if told is None and given is None:
        raise ValueError(f"{path} is of none of the algorithms {', '.join(ALGORITHMS)}; name it with `algorithm`")
    if told is not None and given is not None and told != given:
        saved, asked = ALGORITHMS[told].__name__, ALGORITHMS[given].__name__
        raise ValueError(f"{path} was saved by {saved}, not by {asked}: leave the algorithm out, or give {told!r}")
    return given or str(told)


def _td3_or_ddpg(data: dict[str, Any], given: str | None) -> str:
    """Tell DDPG, which is TD3 with one critic, no delay and no noise on targets."""
    if given in ("td3", "ddpg"):
        return given
    return "ddpg" if data["policy_delay"] == 1 and data.get("target_noise_clip") == 0.0 else "td3"


def check_numbers(path: Path, data: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raise if a setting that is a number for every agent of an algorithm is none in the file.

    Raises:
        ValueError: It is none; the message names the file.
    """
    for name, value in data.items():
        pickled = isinstance(value, dict) and ":serialized:" in value  # a schedule, say
        if not isinstance(defaults.get(name), (int, float)) or pickled:
            continue
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{path} holds {name}={value!r}, where a finite number is due; save the agent again")


def one_line(error: Exception) -> str:
    """Return an error's message on one line, shortened."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
