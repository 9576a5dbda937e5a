"""Zips of agents that are not trusted: weights and plain JSON are read, and nothing is unpickled."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from equirl.agents.agent_folder import MADE_AGAIN
from equirl.agents.agent_zip import check_numbers, one_line, policy_bytes, told_algorithm
from equirl.agents.algorithms import ALGORITHMS
from equirl.agents.known_objects import known_object, policies_of
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.sb3_doors import as_vec_env, built_agent, give_parameters
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.methods import ALL_METHODS
from equirl.safe_files import AllocationBudget
from equirl.symmetry import MDPSymmetry, comes_with_equirl

__all__ = ["load_untrusted"]

_PICKLED = ":serialized:"


def load_untrusted(
    path: Path,
    data: dict[str, Any],
    env: GymEnv | None,
    algorithm: str | None,
    device: str | torch.device,
    symmetry: str | MDPSymmetry | None,
    policy_kwargs: Mapping[str, Any] | None,
) -> BaseAlgorithm:
    """Return the agent of a zip, of which only weights and plain JSON are read; see ``load_agent``.

    Spaces are those of the environment. Settings that are pickled in the file (schedules, classes of buffers) are the
    algorithm's defaults; they play a part in further training alone. Optimizers start anew.

    Args:
        path: The file.
        data: Its settings, as ``read_data`` returns them.
        env: The environment.
        algorithm: By rl_zoo3's name; by default told from the file.
        device: Device for torch.
        symmetry: The symmetry, where the file does not name one of equirl's.
        policy_kwargs: Policy arguments that are pickled in the file.

    Raises:
        ValueError: The environment, the symmetry or a policy argument is needed and not given, or the file does not fit
            them; the message says what to give.
    """
    agent_class = ALGORITHMS[name := told_algorithm(path, algorithm, data, {})]
    if env is None:
        raise ValueError(
            f"the spaces in {path} are pickled, and a zip that is not trusted is not unpickled: give the agent's "
            "environment, load_agent(path, env, trusted=False)"
        )
    venv = as_vec_env(agent_class, env)
    _check_spaces(path, data, venv)
    policy_class, built_in = _policy(path, name, data.get("policy_class"))
    arguments = {**built_in, **_policy_kwargs(path, data.get("policy_kwargs", {}), policy_kwargs or {})}
    arguments |= dict(policy_kwargs or {})
    if issubclass(policy_class, SymmetricPolicy):
        arguments["symmetry"] = _symmetry(path, arguments.get("symmetry"), symmetry)
    elif symmetry is not None:
        raise ValueError(f"{path} holds an agent without a symmetry ({policy_class.__name__}); leave symmetry out")
    defaults = vars(agent_class(policy=next(iter(agent_class.policy_aliases)), env=None, _init_setup_model=False))  # type: ignore[call-arg]
    check_numbers(path, data, defaults)
    settings = {
        key: value
        for key, value in data.items()
        if key in defaults and key not in MADE_AGAIN and not isinstance(value, dict)
    }
    settings |= {"observation_space": venv.observation_space, "action_space": venv.action_space}
    try:
        weights, variables = (_tensors(path, member) for member in ("policy.pth", "pytorch_variables.pth"))
        with AllocationBudget.for_weights(policy_bytes(path)):
            model = built_agent(agent_class, policy_class, {**settings, "policy_kwargs": arguments}, venv, device)
        for parameter, value in weights.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise ValueError(f"its weights {parameter} are not finite")
        give_parameters(model, weights, {}, variables)
    except Exception as error:  # whatever weights of something else make of SB3's and torch's functions
        raise ValueError(
            f"{path} holds no weights that fit {agent_class.__name__} with {policy_class.__name__} in this environment "
            f"({type(error).__name__}: {one_line(error)}); was it made with other policy_kwargs? Give them: "
            "load_agent(path, env, trusted=False, policy_kwargs=dict(net_arch=...))"
        ) from error
    return model


def _tensors(path: Path, member: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            return {}
        content = io.BytesIO(archive.read(member))
    found: dict[str, Any] | None = torch.load(content, map_location="cpu", weights_only=True)
    return found or {}  # as it is: its metadata tell how the group acts


def _check_spaces(path: Path, data: Mapping[str, Any], venv: Any) -> None:
    """Raise where what can be read of the spaces in the file is otherwise in the environment."""
    for name in ("observation_space", "action_space"):
        space, told = getattr(venv, name), data.get(name)
        told = told if isinstance(told, dict) else {}
        for key in ("_shape", "n", "nvec", "low_repr", "high_repr"):
            ours = list(space.shape or ()) if key == "_shape" else getattr(space, key, None)
            if told.get(key) is not None and ours is not None and str(told[key]) != str(ours):
                raise ValueError(
                    f"{path}: its {name} has {key.strip('_')} {told[key]}, and the environment's has {ours}; give the "
                    "environment it was trained in"
                )
        kind = str(told.get(":type:", ""))
        if kind and type(space) is not spaces.Dict and f".{type(space).__name__}'" not in kind:
            raise ValueError(f"{path}: its {name} is a {kind}, and the environment's a {type(space).__name__}")


def _policy(path: Path, algorithm: str, about: Any) -> tuple[type[Any], dict[str, Any]]:
    """Return the class of the policy and what is built into it, told by the texts beside its pickle."""
    about = about if isinstance(about, dict) else {}
    module, text = about.get("__module__"), str({key: value for key, value in about.items() if key != _PICKLED})
    if module == "equirl.agents.policies":
        if not isinstance(about.get("fixed"), dict):
            raise ValueError(f"{path} does not tell what is built into its policy; save the agent again")
        return POLICY_CLASSES[algorithm], dict(about["fixed"])
    known = [each for each in policies_of(algorithm) if each.__module__ == module]
    named = [each for each in known if f"<function {each.__name__}." in text] or known
    exact = [each for each in named if each.__doc__ == about.get("__doc__")] or named
    if len(set(exact)) != 1:
        raise ValueError(
            f"the policy in {path} is of the module {module!r}, and no policy of SB3's, sb3-contrib's or equirl's: a "
            "zip that is not trusted is not unpickled"
        )
    return exact[0], {}


def _policy_kwargs(path: Path, about: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the policy arguments that are plain JSON, or name a class of the table."""
    about = about if isinstance(about, dict) else {}
    if _PICKLED not in about:
        plain = {name: value for name, value in about.items() if name not in ("device", *given)}
        if isinstance(plain.get("features_extractor_class"), str):
            plain["features_extractor_class"] = _from_table(path, "features_extractor_class", plain)
        return plain
    found = {}
    for name, value in about.items():
        if name in (":type:", _PICKLED, "device", "symmetry", *given):
            continue
        if not isinstance(value, str) or (name == "method" and value in ALL_METHODS):
            found[name] = value
        else:  # the text of an object
            found[name] = _from_table(path, name, about)
    if isinstance(about.get("symmetry"), str) and "symmetry" not in given:
        found["symmetry"] = about["symmetry"]
    return found


def _from_table(path: Path, name: str, about: Mapping[str, Any]) -> Any:
    value = str(about[name])
    try:
        return known_object(value.removeprefix("<class '").removesuffix("'>"))
    except ValueError as error:
        raise ValueError(
            f"the policy argument {name} in {path} is pickled ({value[:80]}), and a zip that is not trusted is not "
            f"unpickled: give it, load_agent(path, env, trusted=False, policy_kwargs=dict({name}=...))"
        ) from error


def _symmetry(path: Path, told: Any, given: str | MDPSymmetry | None) -> str | MDPSymmetry:
    if given is not None:
        return given
    if isinstance(told, str) and comes_with_equirl(told):
        return told
    if isinstance(told, MDPSymmetry):
        return told
    raise ValueError(
        f"the symmetry in {path} is pickled ({str(told)[:80]}), and a zip that is not trusted is not unpickled: give "
        "it, load_agent(path, env, trusted=False, symmetry=...)"
    )
