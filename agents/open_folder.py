"""Opening the folder of an agent: everything is checked, and nothing in it is run."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv, TrainFreq
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize
from torch import Tensor

from equirl.agents.agent_card import AgentCard
from equirl.agents.agent_folder import FORMAT, SETTINGS, STATE, WEIGHTS, symmetry_file
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.folder_statistics import normalized, statistics_alone
from equirl.agents.folder_values import ValueReader
from equirl.agents.known_objects import known_object
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.sb3_doors import as_vec_env, built_agent, give_parameters
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.names import unknown_name_message
from equirl.safe_files import (
    AllocationBudget,
    checksum_of_bytes,
    checksum_of_tensors,
    read_bytes,
    read_json,
    read_tensors,
)
from equirl.symmetry import MDPSymmetry, comes_with_equirl, load_symmetry

__all__ = [
    *("algorithm_and_symmetry", "has_normalization", "is_agent_folder", "load_agent_folder", "load_normalization"),
    *("read_card", "stored_normalization"),
]

_LARGEST_SYMMETRY = 64 << 20


def is_agent_folder(path: str | Path) -> bool:
    """Return whether a path is the folder of an agent."""
    try:
        return (Path(path) / SETTINGS).is_file()
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def load_agent_folder(
    path: str | Path, env: GymEnv | None = None, algorithm: str | None = None, device: str | torch.device = "auto"
) -> BaseAlgorithm:
    """Return the agent of a folder that ``save_agent_folder`` wrote; see ``load_agent``.

    Args:
        path: The folder.
        env: The environment. Where the agent's observations were normalised, and the environment's are not, the
            folder's statistics are put around it.
        algorithm: By rl_zoo3's name; it has to be the folder's.
        device: Device for torch.

    Raises:
        FileNotFoundError: A file of the folder is missing.
        ValueError: A file is damaged or of another agent, or the agent does not fit ``env``; the message names it.
    """
    content = _read(Path(path))
    about = content.about
    if algorithm is not None and algorithm != about["algorithm"]:
        raise ValueError(f"{path} holds an agent of {about['algorithm']!r}, not of {algorithm!r}: leave it out")
    try:
        agent_class = ALGORITHMS[about["algorithm"]]
        venv = None if env is None else _with_statistics(agent_class, env, content)
        settings = _settings(content, agent_class)
        with AllocationBudget.for_weights(sum(tensor.nbytes for tensor in content.weights.values())):
            model = built_agent(agent_class, _policy_class(content), settings, venv, device)
        optimizers, variables = (content.reader.value(about[name]) for name in ("optimizers", "variables"))
        give_parameters(model, content.weights, optimizers, variables)
        _check_made(model, content)
        return model
    except Exception as error:  # whatever wrong settings make of SB3's and torch's constructors
        if "spaces do not match" in str(error):
            raise ValueError(
                f"{path}: {error}. The agent was trained on the first and the environment gives the second: check the "
                "environment, its settings and, for MiniGrid, the view"
            ) from error
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{Path(path) / SETTINGS} holds no settings that make an agent of the weights beside it "
            f"({type(error).__name__}: {reason}); copy the folder again, or save the agent again"
        ) from error


def read_card(path: str | Path) -> AgentCard:
    """Return the model card of the agent in a folder.

    Raises:
        FileNotFoundError: A file of the folder is missing.
        ValueError: The folder is damaged; the message names the file.
    """
    content = _read(Path(path))
    try:
        return AgentCard.from_data(content.about["training"])
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{Path(path) / SETTINGS} tells nothing of the training ({error}); {_AGAIN}") from error


def algorithm_and_symmetry(path: str | Path) -> tuple[str, dict[str, Any] | None]:
    """Return the algorithm of a folder's agent, by rl_zoo3's name, and what the folder says of its symmetry.

    Raises:
        FileNotFoundError: A file of the folder is missing.
        ValueError: The folder is damaged; the message names the file.
    """
    about = _read(Path(path)).about
    return str(about["algorithm"]), about["symmetry"]


def has_normalization(path: str | Path) -> bool:
    """Return whether a path is the folder of an agent whose observations or rewards were normalised.

    Raises:
        ValueError: The folder is damaged; the message names the file.
    """
    return is_agent_folder(path) and _read(Path(path)).about["normalization"] is not None


def load_normalization(path: str | Path, environments: VecEnv) -> VecNormalize:
    """Return environments normalised as those of a folder's agent were; the statistics stay as they are.

    Args:
        path: The folder.
        environments: What to normalise, not normalised yet; stack frames afterwards.

    Raises:
        FileNotFoundError: A file of the folder is missing.
        ValueError: The agent's observations were not normalised, or its statistics are of other observations.
    """
    content = _read(Path(path))
    if content.about["normalization"] is None:
        raise ValueError(f"{path} holds an agent whose observations were not normalised")
    try:
        return normalized(environments, content.about["normalization"], content.reader)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{Path(path) / SETTINGS} holds no statistics ({type(error).__name__}: {error})") from error
    except ValueError as error:
        raise ValueError(f"{Path(path) / SETTINGS}: {error}") from error


def stored_normalization(path: str | Path) -> VecNormalize | None:
    """Return the ``VecNormalize`` of a folder's agent without its environment; ``None`` where there is none.

    ``normalize_obs`` of it takes one observation, or several. ``None`` for a path that is no agent's folder, too.

    Raises:
        FileNotFoundError: A file of the folder is missing.
        ValueError: The folder is damaged; the message names the file.
    """
    content = _read(Path(path)) if is_agent_folder(path) else None
    if content is None or content.about["normalization"] is None:
        return None
    try:
        space = content.reader.value(content.about["observation_space"])
        return statistics_alone(space, content.about["normalization"], content.reader)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{Path(path) / SETTINGS} holds no statistics ({type(error).__name__}: {error})") from error


@dataclass(frozen=True)
class _Content:
    folder: Path
    about: dict[str, Any]
    weights: dict[str, Tensor]
    reader: ValueReader


_PARTS: dict[str, Any] = {
    **{"algorithm": str, "policy": str, "policy_kwargs": dict, "settings": dict, "optimizers": dict},
    **{"variables": dict, "checksums": dict, "observation_space": dict, "action_space": dict, "training": dict},
    **{"symmetry": (dict, type(None)), "normalization": (dict, type(None)), "versions": dict},
}


def _read(folder: Path) -> _Content:
    """Return what the files of a folder hold, if their checksums fit together."""
    about, checksum = read_json(folder / SETTINGS)
    if about.get("format") != FORMAT:
        raise ValueError(
            f"{folder / SETTINGS} has the format {about.get('format')!r}, and this version of equirl reads {FORMAT}"
        )
    for name, kind in _PARTS.items():
        if not isinstance(about.get(name), kind):
            raise ValueError(f"{folder / SETTINGS} has no {name} of the right kind; copy the folder again")
    if about["algorithm"] not in ALGORITHMS:
        raise ValueError(f"{folder / SETTINGS}: {unknown_name_message('algorithm', about['algorithm'], ALGORITHMS)}")
    found = {}
    for name in (WEIGHTS, STATE):
        tensors, header = read_tensors(folder / name)
        if header.get(SETTINGS) != checksum:
            raise ValueError(f"{folder / name} does not belong to this {SETTINGS}, or one of them is damaged; {_AGAIN}")
        if checksum_of_tensors(tensors) != about["checksums"].get(name):
            raise ValueError(
                f"{folder / name} does not match its checksum: it is damaged, or of another agent; {_AGAIN}"
            )
        found[name] = tensors
    for name, tensor in found[WEIGHTS].items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{folder / WEIGHTS} holds {name}, which is not finite; save the agent again")
    symmetries = _symmetries(folder, about["checksums"])
    return _Content(folder, about, found[WEIGHTS], ValueReader(found[STATE], symmetries))


_AGAIN = "copy the folder again"


def _symmetries(folder: Path, checksums: dict[str, Any]) -> list[MDPSymmetry]:
    found: list[MDPSymmetry] = []
    while (name := symmetry_file(len(found))) in checksums:
        if checksum_of_bytes(read_bytes(folder / name, _LARGEST_SYMMETRY)) != checksums[name]:
            raise ValueError(f"{folder / name} does not match its checksum: it is damaged; {_AGAIN}")
        found.append(load_symmetry(folder / name))
    return found


def _settings(content: _Content, agent_class: type[BaseAlgorithm]) -> dict[str, Any]:
    """Return the agent's attributes, of which no other is taken than the algorithm has.

    Raises:
        ValueError: One that the algorithm does not have, or another kind of value than it has.
    """
    policy = next(iter(agent_class.policy_aliases))  # RecurrentPPO has another name for it than "MlpPolicy"
    defaults = vars(agent_class(policy=policy, env=None, _init_setup_model=False))  # type: ignore[call-arg]
    settings = {}
    for name, data in content.about["settings"].items():
        value = content.reader.value(data)
        if name not in defaults and name != "n_envs":
            raise ValueError(unknown_name_message(f"setting of {agent_class.__name__}:", name, defaults))
        is_number = isinstance(value, (int, float)) and math.isfinite(value)
        is_schedule = callable(value) or isinstance(value, TrainFreq)
        if isinstance(defaults.get(name), (int, float)) and not (is_number or is_schedule):
            raise ValueError(f"{name} is {value!r}, where a finite number is due")
        settings[name] = value
    about = content.about
    spaces = {name: content.reader.value(about[name]) for name in ("observation_space", "action_space")}
    for space in spaces.values():
        copy.deepcopy(space).sample()
    policy_kwargs = content.reader.value(about["policy_kwargs"])
    if isinstance(policy_kwargs.get("features_extractor_class"), str):
        raise ValueError("features_extractor_class is a text, which would be imported")
    for holder in (policy_kwargs, *settings.values()):
        named = holder.get("symmetry") if isinstance(holder, dict) else None
        if isinstance(named, str) and not comes_with_equirl(named):
            raise ValueError(f"the symmetry {named!r} does not come with equirl, and is not in the folder")
    return {**settings, **spaces, "policy_kwargs": policy_kwargs}


def _policy_class(content: _Content) -> Any:
    policy_class = known_object(content.about["policy"])
    symmetric = isinstance(policy_class, type) and issubclass(policy_class, SymmetricPolicy)
    if symmetric != (content.about["symmetry"] is not None):
        raise ValueError(f"the policy {content.about['policy']} does not go with the symmetry in the file")
    return policy_class


def _check_made(model: BaseAlgorithm, content: _Content) -> None:
    """Raise unless the agent's symmetry moves everything as it did when the agent was saved."""
    saved = content.about["symmetry"]
    if saved is None:
        return
    network = orbit_networks(model)[0]
    told = {
        "name": network.symmetry.name,
        "group": network.symmetry.group.name,
        "order": network.symmetry.group.order,
        "method": network.method,
        "fingerprint": network.symmetry.fingerprint(),
    }
    if told != saved:
        wrong = next(name for name in told if saved.get(name) != told[name])
        raise ValueError(
            f"the symmetry's {wrong} is {told[wrong]!r}, but the agent was saved with {saved.get(wrong)!r}"
        )


def _with_statistics(agent_class: type[BaseAlgorithm], env: GymEnv, content: _Content) -> VecEnv:
    venv = as_vec_env(agent_class, env)
    if content.about["normalization"] is None or unwrap_vec_normalize(venv) is not None:
        return venv
    return normalized(venv, content.about["normalization"], content.reader)
