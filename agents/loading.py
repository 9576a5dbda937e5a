"""Loading agents from files of any age: those saved in the ``gym`` era too, without ``gym``."""

from __future__ import annotations

import base64
import copy
import io
import json
import math
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.open_folder import is_agent_folder, load_agent_folder
from equirl.agents.sb3_doors import as_vec_env
from equirl.devices import check_device
from equirl.names import unknown_name_message

__all__ = ["ALGORITHMS", "load_agent"]

# What zipfile raises for damaged archives: bad structure, unknown compression, encryption, broken streams and names.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, ValueError)

# What SAC and its kind keep beside the policy: the weight of the entropy, learned or fixed.
_VARIABLES = ("log_ent_coef", "ent_coef_tensor")

# Settings that SB3 makes again from others when it sets a model up, or does without.
_MADE_AGAIN = {"lr_schedule", "exploration_schedule", "ep_info_buffer", "ep_success_buffer", "env"}
_MADE_AGAIN |= {
    "_last_obs",
    "_last_original_obs",
    "_last_episode_starts",
    "action_noise",
    "_current_progress_remaining",
}
_MADE_AGAIN |= {"replay_buffer_class", "rollout_buffer_class"}


def load_agent(
    path: str | Path, env: GymEnv | None = None, algorithm: str | None = None, device: str | torch.device = "auto"
) -> BaseAlgorithm:
    """Load a Stable-Baselines3 agent from the zip that ``save`` wrote, or from a folder of ``save_agent_folder``.

    A folder holds data alone: no code of it is run, and it opens in any process.

    A zip may be one that was saved before Gymnasium, when spaces came from ``gym``.
    What an old file holds and today's packages cannot read is replaced: spaces by those of ``env``, schedules and
    buffers by new ones, anything else by the algorithm's default, which a warning names. As SB3's ``load`` does, this
    unpickles parts of the file: open only files that you trust.

    A file does not say whether observations were normalised: load an agent of ``VecNormalize`` with ``env`` wrapped by
    ``VecNormalize.load``.

    Args:
        path: The zip file that ``save`` wrote; ``.zip`` may be left out.
        env: The environment as it is today; needed for files of the ``gym`` era.
        algorithm: By rl_zoo3's name, one of ``ALGORITHMS``; by default told from the file.
        device: Device for torch.

    Returns:
        The agent, of its own class.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Not a zip, a truncated or corrupt one, one without an agent in it, an unknown algorithm or another
            one than the file's, an agent that does not fit ``env``, a file of the ``gym`` era without ``env``, or a
            device that is not there. Errors in the file name it.
    """
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ValueError(unknown_name_message("algorithm", algorithm, ALGORITHMS))
    _check_device(device)
    if is_agent_folder(path):
        return load_agent_folder(path, env, algorithm, device)
    path = _existing(Path(path))
    data = _read_data(path)
    parts, unreadable = _unpickled(data)
    agent_class = ALGORITHMS[_algorithm(path, algorithm, data, parts)]
    policy = next(iter(agent_class.policy_aliases))  # RecurrentPPO has another name for it than "MlpPolicy"
    defaults = vars(agent_class(policy=policy, env=None, _init_setup_model=False))  # type: ignore[call-arg]
    _check_numbers(path, data, defaults)
    venv = None if env is None else as_vec_env(agent_class, env)
    replaced = _replacements(path, unreadable, defaults, venv)
    try:
        model = agent_class.load(path, env=venv, device=device, custom_objects=replaced)
        _check_loaded(path, model)
        return model
    except Exception as error:  # whatever a damaged file makes of SB3's and torch's constructors
        if "spaces do not match" in str(error):
            raise ValueError(
                f"{path}: {error}. The agent was trained on the first and the environment gives the second: check the "
                "environment, its settings and, for MiniGrid, the view"
            ) from error
        raise ValueError(
            f"{path} holds no settings and weights that fit {agent_class.__name__} ({type(error).__name__}: "
            f"{_one_line(error)}); copy the file again, or save the agent again"
        ) from error


def _check_device(device: str | torch.device) -> None:
    """Raise unless the device can be used; where there is no CUDA, Stable-Baselines3 takes the CPU for it."""
    if device != "auto" and not (str(device).partition(":")[0] == "cuda" and not torch.cuda.is_available()):
        check_device(device)


def _existing(path: Path) -> Path:
    candidates = [path, path.with_name(f"{path.name}.zip")] if path.name else [path]
    try:
        for candidate in candidates:
            if candidate.is_file():
                return candidate
        if path.is_dir():
            raise ValueError(f"{path} is a folder, not an agent: give the .zip that SB3's save() wrote")
    except OSError as error:  # a name that is too long, or a folder that may not be read
        raise FileNotFoundError(f"{path} cannot be looked up ({error.strerror}): give the .zip of an agent") from error
    raise FileNotFoundError(f"there is no agent at {path}: give the .zip that SB3's save() wrote")


def _read_data(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            names = archive.namelist()
            text = archive.read("data") if broken is None and "data" in names else b""
    except _ZIP_ERRORS as error:
        raise ValueError(
            f"{path} is not a zip file, or a part of it is missing ({_one_line(error)}); copy it again, or save the "
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


def _unpickled(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Return the pickled entries that can be read, and the errors of the others."""
    readable: dict[str, Any] = {}
    unreadable: dict[str, Exception] = {}
    for name, entry in data.items():
        if isinstance(entry, dict) and ":serialized:" in entry:
            try:
                readable[name] = cloudpickle.loads(base64.b64decode(entry[":serialized:"].encode()))
            except Exception as error:  # a pickle may call anything, and that may raise anything
                unreadable[name] = error
    return readable, unreadable


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


def _algorithm(path: Path, given: str | None, data: dict[str, Any], parts: dict[str, Any]) -> str:
    """Return the algorithm that a file is of, told from the settings that only it has."""
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


def _check_numbers(path: Path, data: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Raise if a setting that is a number for every agent of an algorithm is none in the file."""
    for name, value in data.items():
        pickled = isinstance(value, dict) and ":serialized:" in value  # a schedule, say
        if not isinstance(defaults.get(name), (int, float)) or pickled:
            continue
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"{path} holds {name}={value!r}, where a finite number is due; save the agent again")


def _check_loaded(path: Path, model: BaseAlgorithm) -> None:
    """Raise if SB3 took from a file what no agent has."""
    for space in (model.observation_space, model.action_space):
        copy.deepcopy(space).sample()
    for name, parameter in model.policy.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ValueError(f"its weights {name} are not finite")
    with zipfile.ZipFile(path) as archive:
        if "pytorch_variables.pth" in archive.namelist():
            content = io.BytesIO(archive.read("pytorch_variables.pth"))
            variables = torch.load(content, map_location="cpu", weights_only=True) or {}
            for name, value in variables.items():
                if name not in _VARIABLES or not hasattr(model, name):
                    raise ValueError(f"it sets {name} beside the policy; {type(model).__name__} saves no such thing")
                if not bool(torch.isfinite(value).all()):
                    raise ValueError(f"its {name} is not finite")


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."


def _replacements(
    path: Path, unreadable: dict[str, Exception], defaults: dict[str, Any], env: VecEnv | None
) -> dict[str, Any]:
    replaced: dict[str, Any] = {}
    defaulted = []
    for name, error in unreadable.items():
        if name in ("observation_space", "action_space"):
            if env is None:
                raise ValueError(
                    f"the {name} in {path} cannot be read ({_one_line(error)}): it was saved with `gym` or other "
                    "packages of its time. Pass the environment as it is today: load_agent(path, env)"
                )
            replaced[name] = getattr(env, name)
        elif name in ("policy_class", "policy_kwargs"):
            raise ValueError(
                f"the {name} in {path} cannot be read ({_one_line(error)}); install the package that defines it"
            )
        else:
            replaced[name] = defaults.get(name)
            if name not in _MADE_AGAIN:
                defaulted.append(name)
    if defaulted:
        warnings.warn(f"{path}: not readable any more, replaced by defaults: {', '.join(defaulted)}", stacklevel=3)
    return replaced
