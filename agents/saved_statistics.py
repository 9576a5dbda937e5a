"""Files beside an agent: statistics of ``VecNormalize`` and replay buffers, of any age, with errors that name them."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

__all__ = ["load_replay_buffer", "load_vecnormalize"]


class _Missing:
    """Stands for an object of a class that is not installed; it takes any arguments and any state."""

    def __new__(cls, *_: Any, **__: Any) -> _Missing:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Unpickler(pickle.Unpickler):
    """Reads what it can: objects of classes that are not there, such as ``gym``'s spaces, become ``_Missing``."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "gym":  # spaces of its time are replaced even where gym is installed
            return _Missing
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return _Missing


def load_vecnormalize(path: str | Path, environments: VecEnv) -> VecNormalize:
    """Return environments normalised by saved statistics, those saved before Gymnasium too, without ``gym``.

    Spaces that cannot be read any more are taken from the environments. As SB3's ``load`` does, this unpickles the
    file: open only files that you trust.

    Args:
        path: The file that ``VecNormalize.save`` wrote.
        environments: What to normalise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else, damaged, or of other observations; the message names it.
    """
    with _reading(path, "statistics of VecNormalize", "VecNormalize.save()"), Path(path).open("rb") as file:
        loaded = _Unpickler(file).load()
    if not isinstance(loaded, VecNormalize):
        raise ValueError(
            f"{path} holds a {type(loaded).__name__}, not the statistics of VecNormalize; give the file that "
            "VecNormalize.save() wrote"
        )
    for name in ("observation_space", "action_space"):
        # vars, for a VecEnv without an environment looks for a missing attribute for ever.
        if not isinstance(vars(loaded).get(name), spaces.Space):
            setattr(loaded, name, getattr(environments, name))
    if vars(loaded).get("norm_obs") and _shapes(loaded) != _shapes_of(environments.observation_space):
        raise ValueError(
            f"{path} holds statistics of observations of shape {_shapes(loaded)}, but the environment's are "
            f"{_shapes_of(environments.observation_space)}; give the file of this agent and environment"
        )
    try:
        loaded.set_venv(environments)
    except Exception as error:  # what SB3 makes of statistics that lack parts
        raise ValueError(f"{path} does not fit the environment: {type(error).__name__}: {error}") from error
    return loaded


def load_replay_buffer(model: OffPolicyAlgorithm, path: str | Path) -> None:
    """Give an agent its saved replay buffer.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is something else, damaged, or of other observations; the message names it.
    """
    with _reading(path, "replay buffer", "save_replay_buffer()"):
        model.load_replay_buffer(path)
        buffer = model.replay_buffer
        if not isinstance(buffer, ReplayBuffer):
            raise ValueError(f"it is a {type(buffer).__name__}")
        kept = buffer.observations
        found = {key: values.shape[2:] for key, values in kept.items()} if isinstance(kept, dict) else kept.shape[2:]
        size = buffer.size()
    wanted = DictReplayBuffer if isinstance(model.observation_space, spaces.Dict) else ReplayBuffer
    due = _shapes_of(model.observation_space)
    if not isinstance(buffer, wanted) or (isinstance(found, tuple) and isinstance(due, tuple) and found != due):
        raise ValueError(f"{path} holds observations of shape {found}, but the agent's are {due}; give its own buffer")
    if size == 0:
        raise ValueError(f"{path} holds an empty replay buffer; give one that was saved after training")


@contextmanager
def _reading(path: str | Path, what: str, writer: str) -> Iterator[None]:
    """Name the file in the error of a block that unpickles it."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no {what} at {path}; give the file that {writer} wrote")
    try:
        yield
    except Exception as error:  # a damaged pickle may raise anything
        raise ValueError(
            f"{path} holds no {what} that can be read ({type(error).__name__}: {error}); give the file that {writer} "
            "wrote"
        ) from error


def _shapes(normalize: VecNormalize) -> Any:
    statistics = vars(normalize).get("obs_rms")
    if isinstance(statistics, RunningMeanStd):
        return np.shape(statistics.mean)
    if isinstance(statistics, dict):
        return {key: np.shape(part.mean) for key, part in statistics.items()}
    return None


def _shapes_of(space: spaces.Space[Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: part.shape for key, part in space.spaces.items()}
    # SB3's replay buffer keeps a Discrete observation as an array of one number.
    return (1,) if isinstance(space, spaces.Discrete) else space.shape
