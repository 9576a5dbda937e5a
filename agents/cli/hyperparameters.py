"""Files of hyperparameters: which one is read for an environment, and what can be wrong with one."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from rl_zoo3.utils import ALGOS

from equirl.agents.masks import know_maskable_ppo
from equirl.agents.minigrid_views import is_minigrid
from equirl.envs import DECLARED_SYMMETRIES
from equirl.envs.making import has_view
from equirl.names import unknown_name_message

__all__ = ["check_hyperparameters", "hyperparameter_file", "read_hyperparameters", "zoo_file"]

know_maskable_ppo()

_OURS = Path(__file__).parents[1] / "hyperparams"

_OF_ZOO = (
    *("n_envs", "n_timesteps", "normalize", "env_wrapper", "vec_env_wrapper", "callback", "frame_stack"),
    *("monitor_kwargs", "env_kwargs", "noise_type", "noise_std"),
)
"""Hyperparameters that rl_zoo3 reads; all others go to the algorithm."""

_FROM_OPTIONS = ("self", "env", "seed", "verbose", "device", "tensorboard_log", "_init_setup_model")
"""Arguments of algorithms that the command line gives."""

_WHOLE = {
    **dict.fromkeys(("n_envs", "batch_size", "buffer_size", "n_steps", "n_epochs", "frame_stack"), 1),
    **dict.fromkeys(("target_update_interval", "policy_delay"), 1),
    "learning_starts": 0,
}
"""Hyperparameters that are whole numbers, and the smallest that is allowed."""

_SHARES = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps")
"""Hyperparameters between 0 and 1."""


def hyperparameter_file(algorithm: str, environment: str, symmetry: str | None = None) -> Path | None:
    """Return our file where it knows the environment, else ``None``: rl_zoo3's own then.

    MiniGrid's environments share a file, which serves those with a declared symmetry and those whose symmetry is given.

    Args:
        algorithm: By rl_zoo3's name.
        environment: A registered id.
        symmetry: The symmetry that the command line gives: its name, or a symmetry file.
    """
    path = _OURS / f"{algorithm}.yml"
    if path.exists() and environment in yaml.safe_load(path.read_text(encoding="utf-8")):
        return path
    path = _OURS / f"minigrid_{algorithm}.yml"
    declared = any(environment == known.environment_id for known in DECLARED_SYMMETRIES)
    if path.exists() and is_minigrid(environment) and (declared or has_view(symmetry)):
        return path
    return None


def zoo_file(algorithm: str) -> Path:
    """Return rl_zoo3's own file for an algorithm."""
    algorithm = {"ppo_mask": "ppo"}.get(algorithm, algorithm)  # rl_zoo3 has no file for it
    package = Path(inspect.getfile(importlib.import_module("rl_zoo3"))).parent
    inside = package / "hyperparams" / f"{algorithm}.yml"
    return inside if inside.exists() else package.parent / "hyperparams" / f"{algorithm}.yml"


def read_hyperparameters(file: str, algorithm: str, environment: str) -> dict[str, Any]:
    """Return what a file of rl_zoo3's format holds for an environment, as rl_zoo3 finds it.

    Args:
        file: A YAML file, a Python file, or the name of a module; the latter two hold a dictionary ``hyperparams``.
        algorithm: By rl_zoo3's name.
        environment: A registered id.

    Raises:
        ValueError: No such file, one that cannot be read, or one without an entry for the environment; the message
            names the file.
    """
    content = _read(file)
    if not isinstance(content, Mapping) or not content:
        raise ValueError(
            f"-conf {file} holds {_shown(content)}, where an entry for each environment is due, such as "
            f"`{environment}:` with `n_timesteps: 50000` and `policy: MlpPolicy` below it"
        )
    atari = "AtariEnv" in str(gym.spec(environment).entry_point)
    for name in (environment, "atari" if atari else "default"):
        if name in content:
            found = content[name]
            break
    else:
        raise ValueError(
            f"{file} has no hyperparameters for {environment}, only for {', '.join(map(str, list(content)[:8]))}"
            f"{', ...' if len(content) > 8 else ''}; give a file that has: -conf FILE.yml"
        )
    if not isinstance(found, Mapping):
        raise ValueError(f"{file} holds {_shown(found)} for {name}, where settings such as `policy: MlpPolicy` are due")
    return dict(found)


def check_hyperparameters(algorithm: str, hyperparameters: Mapping[str, Any], source: str) -> None:
    """Raise if a hyperparameter is unknown or out of its range, as far as that can be told before training.

    Args:
        algorithm: By rl_zoo3's name.
        hyperparameters: By name.
        source: Where they are from, for the message.

    Raises:
        ValueError: A name that neither the algorithm nor rl_zoo3 knows, or a value out of its range.
    """
    parameters = inspect.signature(ALGOS[algorithm].__init__).parameters
    known = {*parameters, *_OF_ZOO} - {*_FROM_OPTIONS}
    for name, value in hyperparameters.items():
        if name in _FROM_OPTIONS:
            raise ValueError(f"{source}: {name} is an option of the command, not a hyperparameter")
        if name not in known:
            raise ValueError(f"{source}: {unknown_name_message(f'hyperparameter of {algorithm}', str(name), known)}")
        if (wrong := _wrong(name, value)) is not None:
            raise ValueError(f"{source}: {name} is {wrong}; got {value!r}")


def _wrong(name: str, value: Any) -> str | None:
    """Return what a hyperparameter should be, if it is not that."""
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if name == "n_timesteps":
        try:
            return None if 1 <= float(value) < math.inf else "a number of steps, at least 1"
        except (TypeError, ValueError):
            return "a number of steps, at least 1"
    if name in _WHOLE and value is not None:
        least = _WHOLE[name]
        return None if number == number // 1 and number >= least else f"a whole number from {least}"
    if name in _SHARES:
        return None if 0 <= number <= 1 else "a number from 0 to 1"
    if name == "learning_rate" and not callable(value):
        if isinstance(value, str) and value.startswith("lin_"):
            number = _as_number(value.removeprefix("lin_"))
        return None if 0 < number < math.inf else "a number above 0, or lin_NUMBER for a rate that falls to 0"
    if name == "gradient_steps":
        return None if number == number // 1 and (number >= 1 or number == -1) else "a whole number from 1, or -1"
    if name == "train_freq":
        steps = value[0] if isinstance(value, (list, tuple)) and len(value) == 2 else value
        whole = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 1
        return (
            None if whole else 'a whole number from 1, or such a number with "step" or "episode", as in (1, "episode")'
        )
    if name == "policy" and not isinstance(value, str):
        return "the name of a policy, such as MlpPolicy"
    return None


def _as_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _read(file: str) -> Any:
    path = Path(file)
    if path.is_dir():
        raise ValueError(f"-conf {file} is a folder; give a YAML file")
    if path.suffix not in (".yml", ".yaml", ".py") and not path.exists():
        try:
            return importlib.import_module(file).hyperparams
        except Exception as error:  # a user's module may raise anything
            raise ValueError(
                f"-conf {file}: no file, and no module with a dictionary `hyperparams` ({type(error).__name__}: "
                f"{error}); give a YAML file, whose name ends in .yml"
            ) from error
    if path.suffix not in (".yml", ".yaml", ".py"):
        raise ValueError(f"-conf {file}: the name of a file of hyperparameters ends in .yml, .yaml or .py")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"-conf {file} is not text in UTF-8 ({error.reason}); save it as UTF-8") from error
    except OSError as error:
        raise ValueError(f"-conf {file} cannot be read: {error.strerror}") from error
    if path.suffix == ".py":
        names: dict[str, Any] = {}
        try:
            exec(compile(text, file, "exec"), names)
        except Exception as error:  # a user's file may raise anything
            raise ValueError(f"-conf {file} fails when it is run ({type(error).__name__}: {error})") from error
        return names.get("hyperparams")
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = "" if place is None else f", line {place.line + 1}, column {place.column + 1}"
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise ValueError(f"-conf {file}{where}: this is no YAML ({reason}); is a bracket or a quote open?") from error


def _shown(content: Any) -> str:
    text = repr(content)
    return "nothing" if content in (None, {}, "") else text if len(text) <= 60 else f"{text[:57]}..."
