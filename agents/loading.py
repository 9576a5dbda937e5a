"""Loading agents from files of any age: those saved in the ``gym`` era too, without ``gym``."""

from __future__ import annotations

import base64
import json
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import cloudpickle
from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from equirl.names import unknown_name_message

__all__ = ["ALGORITHMS", "load_agent"]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"a2c": A2C, "dqn": DQN, "ppo": PPO, "qrdqn": QRDQN}
"""Algorithms that equirl symmetrizes, by the names of rl_zoo3."""

# What opening an old pickle can raise: a module or attribute that is gone, another Python's bytecode, cut-off bytes.
_UNREADABLE = (ImportError, AttributeError, TypeError, ValueError, KeyError, IndexError, EOFError, SystemError)

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
    path: str | Path, env: GymEnv | None = None, algorithm: str | None = None, device: str = "auto"
) -> BaseAlgorithm:
    """Load a Stable-Baselines3 agent, also one that was saved before Gymnasium, when spaces came from ``gym``.

    What an old file holds and today's packages cannot read is replaced: spaces by those of ``env``, schedules and
    buffers by new ones, anything else by the algorithm's default, which a warning names.

    Args:
        path: The zip file that ``save`` wrote.
        env: The environment as it is today; needed for files of the ``gym`` era.
        algorithm: ``"dqn"``, ``"qrdqn"``, ``"ppo"`` or ``"a2c"``; by default told from the file.
        device: Device for torch.

    Returns:
        The agent, of its own class.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Not a zip, a truncated or corrupt one, one without an agent in it, an unknown algorithm, or a file
            of the ``gym`` era without ``env``.
    """
    data = _read_data(Path(path))
    unreadable = {name: error for name, entry in data.items() if (error := _reading_error(entry)) is not None}
    if algorithm is None:
        algorithm = _tell_algorithm(data)
    if algorithm not in ALGORITHMS:
        raise ValueError(unknown_name_message("algorithm", algorithm, ALGORITHMS))
    agent_class = ALGORITHMS[algorithm]
    venv = None if env is None else agent_class._wrap_env(env)
    replaced = _replacements(path, unreadable, agent_class, venv)
    try:
        return agent_class.load(path, env=venv, device=device, custom_objects=replaced)
    except ValueError as error:
        if "spaces do not match" not in str(error):
            raise
        raise ValueError(
            f"{path}: {error}. The agent was trained on the first and the environment gives the second: check the "
            "environment, its settings and, for MiniGrid, the view"
        ) from error
    except (RuntimeError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no weights that fit {agent_class.__name__}: {error}") from error


def _read_data(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"there is no agent at {path}: give the .zip that SB3's save() wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
            names = archive.namelist()
            text = archive.read("data").decode() if broken is None and "data" in names else ""
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(
            f"{path} is not a zip file, or a part of it is missing ({error}); copy it again, or save the agent again"
        ) from error
    if broken is not None:
        raise ValueError(f"{path} is damaged: {broken} does not match its checksum; copy the file again")
    if not text or "policy.pth" not in names:
        raise ValueError(
            f"{path} holds no Stable-Baselines3 agent, or only a part of one (no data or policy.pth in it); give the "
            ".zip that save() wrote, and copy it again if it is that one"
        )
    data: dict[str, Any] = json.loads(text)
    return data


def _reading_error(entry: Any) -> Exception | None:
    if isinstance(entry, dict) and ":serialized:" in entry:
        try:
            cloudpickle.loads(base64.b64decode(entry[":serialized:"]))
        except (*_UNREADABLE, pickle.UnpicklingError, RuntimeError) as error:
            return error
    return None


def _tell_algorithm(data: dict[str, Any]) -> str:
    """Tell the algorithm from the settings that only it has."""
    policy = json.dumps(data.get("policy_class")).lower()
    others = ("cg_max_steps", "target_entropy", "policy_delay")  # TRPO, SAC, TD3
    if any(mark in data for mark in others) or "maskable" in policy or "recurrent" in policy:
        raise ValueError(f"this file is of none of the algorithms {', '.join(ALGORITHMS)}")
    if "clip_range" in data:
        return "ppo"
    if "exploration_fraction" in data:
        return "qrdqn" if "qrdqn" in policy else "dqn"
    if "ent_coef" in data and "n_steps" in data:
        return "a2c"
    raise ValueError(f"this file is of none of the algorithms {', '.join(ALGORITHMS)}; name it with `algorithm`")


def _replacements(
    path: str | Path, unreadable: dict[str, Exception], agent_class: type[BaseAlgorithm], env: VecEnv | None
) -> dict[str, Any]:
    replaced: dict[str, Any] = {}
    if not unreadable:
        return replaced
    defaults = vars(agent_class(policy="MlpPolicy", env=None, _init_setup_model=False))  # type: ignore[call-arg]
    defaulted = []
    for name, error in unreadable.items():
        if name in ("observation_space", "action_space"):
            if env is None:
                raise ValueError(
                    f"the {name} in {path} cannot be read ({error}): it was saved with `gym` or other packages of its "
                    "time. Pass the environment as it is today: load_agent(path, env)"
                )
            replaced[name] = getattr(env, name)
        elif name in ("policy_class", "policy_kwargs"):
            raise ValueError(f"the {name} in {path} cannot be read ({error}); install the package that defines it")
        else:
            replaced[name] = defaults.get(name)
            if name not in _MADE_AGAIN:
                defaulted.append(name)
    if defaulted:
        warnings.warn(f"{path}: not readable any more, replaced by defaults: {', '.join(defaulted)}", stacklevel=3)
    return replaced
