"""Loading agents from files of any age: those saved in the ``gym`` era too, without ``gym``."""

from __future__ import annotations

import base64
import copy
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents.absent_buffer import buffer_without_environment
from equirl.agents.agent_zip import check_numbers, one_line, policy_bytes, read_data, told_algorithm
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.open_folder import is_agent_folder, load_agent_folder
from equirl.agents.sb3_doors import as_vec_env
from equirl.agents.untrusted_zip import load_untrusted
from equirl.devices import check_device
from equirl.names import unknown_name_message
from equirl.safe_files import AllocationBudget
from equirl.symmetry import MDPSymmetry

__all__ = ["ALGORITHMS", "load_agent"]

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
    path: str | Path,
    env: GymEnv | None = None,
    algorithm: str | None = None,
    device: str | torch.device = "auto",
    *,
    trusted: bool = True,
    symmetry: str | MDPSymmetry | None = None,
    policy_kwargs: Mapping[str, Any] | None = None,
) -> BaseAlgorithm:
    """Load a Stable-Baselines3 agent from the zip that ``save`` wrote, or from a folder of ``save_agent_folder``.

    A folder holds data alone: no code of it is run, and it opens in any process.

    A zip may be one that was saved before Gymnasium, when spaces came from ``gym``.
    What an old file holds and today's packages cannot read is replaced: spaces by those of ``env``, schedules and
    buffers by new ones, anything else by the algorithm's default, which a warning names. As SB3's ``load`` does, this
    unpickles parts of a zip, which may run any code: open only zips that you trust, or give ``trusted=False``, which
    reads the weights and the plain numbers alone.

    A zip does not say whether observations were normalised: load an agent of ``VecNormalize`` with ``env`` wrapped by
    ``VecNormalize.load``.

    Args:
        path: The folder of ``save_agent_folder``, or the zip file that ``save`` wrote; ``.zip`` may be left out.
        env: The environment as it is today; needed for files of the ``gym`` era, with ``trusted=False`` for a zip, and
            to train on with hindsight experience replay (without one such an agent only acts).
        algorithm: By rl_zoo3's name, one of ``ALGORITHMS``; by default told from the file.
        device: Device for torch.
        trusted: Whether parts of a zip may be unpickled.
        symmetry: The symmetry of the agent in a zip that is not trusted, if the zip does not name one of equirl's.
        policy_kwargs: Policy arguments of such a zip that are pickled in it.

    Returns:
        The agent, of its own class.

    Raises:
        FileNotFoundError: There is no such file, or a folder lacks one.
        ValueError: A folder with damaged files; not a zip, a truncated or corrupt one, one without an agent in it, an
            unknown algorithm or another one than the file's, an agent that does not fit ``env``, a file of the ``gym``
            era without ``env``, what ``trusted=False`` needs and is not given, or a device that is not there. Errors in
            the file name it.
    """
    if algorithm is not None and algorithm not in ALGORITHMS:
        raise ValueError(unknown_name_message("algorithm", algorithm, ALGORITHMS))
    _check_device(device)
    folder = is_agent_folder(path)
    if (trusted or folder) and not (symmetry is None and policy_kwargs is None):
        raise ValueError("symmetry and policy_kwargs are for load_agent(zip, env, trusted=False); leave them out")
    if folder:
        return load_agent_folder(path, env, algorithm, device)
    path = _existing(Path(path))
    data = read_data(path)
    if not trusted:
        return load_untrusted(path, data, env, algorithm, device, symmetry, policy_kwargs)
    parts, unreadable = _unpickled(data)
    agent_class = ALGORITHMS[told_algorithm(path, algorithm, data, parts)]
    policy = next(iter(agent_class.policy_aliases))  # RecurrentPPO has another name for it than "MlpPolicy"
    defaults = vars(agent_class(policy=policy, env=None, _init_setup_model=False))  # type: ignore[call-arg]
    check_numbers(path, data, defaults)
    venv = None if env is None else as_vec_env(agent_class, env)
    replaced = _replacements(path, unreadable, defaults, venv)
    absent = buffer_without_environment(parts.get("replay_buffer_class")) if env is None else {}
    try:
        with AllocationBudget.for_weights(policy_bytes(path)):
            model = agent_class.load(path, env=venv, device=device, custom_objects=replaced, **absent)
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
            f"{one_line(error)}); copy the file again, or save the agent again"
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
            raise ValueError(
                f"{path} is a folder, not an agent (no agent.json in it): give one of save_agent_folder, or a .zip"
            )
    except OSError as error:  # a name that is too long, or a folder that may not be read
        raise FileNotFoundError(f"{path} cannot be looked up ({error.strerror}): give the .zip of an agent") from error
    raise FileNotFoundError(f"there is no agent at {path}: give the .zip that SB3's save() wrote")


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


def _replacements(
    path: Path, unreadable: dict[str, Exception], defaults: dict[str, Any], env: VecEnv | None
) -> dict[str, Any]:
    replaced: dict[str, Any] = {}
    defaulted = []
    for name, error in unreadable.items():
        if name in ("observation_space", "action_space"):
            if env is None:
                raise ValueError(
                    f"the {name} in {path} cannot be read ({one_line(error)}): it was saved with `gym` or other "
                    "packages of its time. Pass the environment as it is today: load_agent(path, env)"
                )
            replaced[name] = getattr(env, name)
        elif name in ("policy_class", "policy_kwargs"):
            raise ValueError(
                f"the {name} in {path} cannot be read ({one_line(error)}); install the package that defines it"
            )
        else:
            replaced[name] = defaults.get(name)
            if name not in _MADE_AGAIN:
                defaulted.append(name)
    if defaulted:
        warnings.warn(f"{path}: not readable any more, replaced by defaults: {', '.join(defaulted)}", stacklevel=3)
    return replaced
