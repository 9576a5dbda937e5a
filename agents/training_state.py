"""Everything that the rest of a training depends on: agent, replay buffer, environments, callbacks, random numbers."""

from __future__ import annotations

import io
import os
import random
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file, recursive_setattr

from equirl.agents.environment_state import environment_state, restore_environments
from equirl.agents.sb3_doors import begin_episodes_anew, follow_normalization, recurrent_states, set_recurrent_states

__all__ = ["KeepsState", "TrainingState", "restore_training", "training_state"]

TrainingState = dict[str, Any]


@runtime_checkable
class KeepsState(Protocol):
    """A callback that keeps more than numbers over a stop."""

    def state_to_keep(self) -> Any:
        """Return what is to be kept; it can be pickled."""

    def restore_state(self, state: Any) -> None:
        """Put it back, once training is about to go on."""


_AS_MADE = (
    *("policy_class", "policy_kwargs", "observation_space", "action_space", "action_noise", "tensorboard_log"),
    *("start_time", "verbose", "replay_buffer_class", "replay_buffer_kwargs", "rollout_buffer_class"),
    *("rollout_buffer_kwargs", "train_freq"),
)
"""Attributes of an agent that stay as they were made."""

_PLAIN = (int, float, str, np.ndarray, np.generic, list, tuple, dict, deque, type(None))
_NOT_OURS = ("model", "training_env", "eval_env", "parent", "callback", "callbacks", "locals", "globals")
_NOISE = ("exploration_mat", "exploration_matrices")
_COUNTS = ("name_to_value", "name_to_count", "name_to_excluded")


def training_state(model: BaseAlgorithm, callbacks: Sequence[BaseCallback]) -> TrainingState:
    """Return the state of a training that is about to begin a rollout, for ``restore_training``.

    It shares memory with the agent: pickle it before the training goes on.

    Args:
        model: The agent.
        callbacks: What happens besides while it learns.
    """
    agent = io.BytesIO()
    model.save(agent)
    parts = list(_flat(callbacks))
    return {
        "agent": agent.getvalue(),
        "lstm": recurrent_states(model),
        "noise": [[getattr(each, key) for key in _NOISE] for each in _noises(model)],
        "action noise": dict(vars(model.action_noise)) if model.action_noise is not None else None,
        "buffer": _buffer_state(getattr(model, "replay_buffer", None)),
        "environments": environment_state(_environments(model)),
        "callbacks": [_attributes(each) for each in parts],
        "kept": [_more_of(each) for each in parts],
        "evaluations": [environment_state(each.eval_env) for each in parts if hasattr(each, "eval_env")],
        "logger": {name: dict(getattr(model.logger, name)) for name in _COUNTS},
        "log folder": model.logger.get_dir(),
        "log files": _sizes(model.logger.get_dir()),
        "random": _random_numbers(model),
    }


def restore_training(model: BaseAlgorithm, callbacks: Sequence[BaseCallback], state: TrainingState) -> list[str]:
    """Put a training, made in the same way and about to begin its first rollout, into a state, in place.

    Args:
        model: The agent.
        callbacks: What happens besides while it learns.
        state: What ``training_state`` returned.

    Returns:
        What could not be put back, a sentence each; empty if the training goes on exactly where it was.
    """
    data, parameters, variables = load_from_zip_file(io.BytesIO(state["agent"]), device=model.device)
    for name, value in (data or {}).items():
        if name not in _AS_MADE and not callable(value):
            setattr(model, name, value)
    model.set_parameters(parameters, exact_match=True, device=model.device)
    for name, value in (variables or {}).items():
        recursive_setattr(model, f"{name}.data", value.data)
    set_recurrent_states(model, state["lstm"])
    for each, values in zip(_noises(model), state["noise"], strict=True):
        for key, value in zip(_NOISE, values, strict=True):
            setattr(each, key, value)
    if model.action_noise is not None:
        vars(model.action_noise).update(state["action noise"])
    _restore_buffer(getattr(model, "replay_buffer", None), state["buffer"])
    parts = list(_flat(callbacks))
    for callback, attributes in zip(parts, state["callbacks"], strict=True):
        vars(callback).update(attributes)
    for callback, kept in zip(parts, state["kept"], strict=True):
        if isinstance(callback, KeepsState):
            callback.restore_state(kept)
    lost = []
    if not restore_environments(_environments(model), state["environments"]):
        begin_episodes_anew(model)
        lost.append(f"episodes that were under way begin anew ({state['environments']['reason']})")
    follow_normalization(model)
    evaluated = [each.eval_env for each in parts if hasattr(each, "eval_env")]
    for environments, saved in zip(evaluated, state["evaluations"], strict=True):
        if not restore_environments(environments, saved):
            lost.append(f"the environments of evaluations have other random numbers ({saved['reason']})")
    for name in _COUNTS:
        getattr(model.logger, name).update(state["logger"][name])
    _cut(state["log files"])
    _restore_random_numbers(model, state["random"])
    return lost


def _environments(model: BaseAlgorithm) -> Any:
    return model.get_env()


def _flat(callbacks: Sequence[BaseCallback]) -> Iterator[BaseCallback]:
    """Give all callbacks, those within others too."""
    for callback in callbacks:
        yield callback
        inner = [*getattr(callback, "callbacks", ()), getattr(callback, "callback", None)]
        inner += [getattr(callback, "callback_on_new_best", None)]
        known = {id(each): each for each in inner if isinstance(each, BaseCallback)}
        yield from _flat(list(known.values()))


def _attributes(callback: BaseCallback) -> dict[str, Any]:
    own = {key: value for key, value in vars(callback).items() if key not in _NOT_OURS}
    return {key: value for key, value in own.items() if _is_state(value)}


def _more_of(callback: BaseCallback) -> Any:
    """Return what a callback itself wants kept beside its numbers, such as the evidence of ``GateTraining``."""
    return callback.state_to_keep() if isinstance(callback, KeepsState) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(each) for each in value.values())
    if isinstance(value, list | tuple | deque):
        return all(_is_plain(each) for each in value)
    return isinstance(value, _PLAIN)


def _noises(model: BaseAlgorithm) -> list[Any]:
    """Return the distributions of gSDE, whose noise is drawn for a whole rollout."""
    found = (getattr(module, "action_dist", None) for module in model.policy.modules())
    return [each for each in found if all(hasattr(each, key) for key in _NOISE)]


def _buffer_state(buffer: BaseBuffer | None) -> dict[str, Any] | None:
    """Return what a replay buffer holds: of its arrays the rows that are filled."""
    if buffer is None:
        return None
    return {key: _rows(buffer, value) for key, value in vars(buffer).items() if _is_state(value)}


def _is_state(value: Any) -> bool:
    return _is_plain(value) or isinstance(value, np.random.Generator | torch.Generator)


def _rows(buffer: BaseBuffer, value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rows(buffer, each) for key, each in value.items()}
    return value[: buffer.size()] if _is_table(buffer, value) else value


def _restore_buffer(buffer: BaseBuffer | None, state: dict[str, Any] | None) -> None:
    if buffer is None or state is None:
        return
    for key, value in state.items():
        setattr(buffer, key, _filled(buffer, getattr(buffer, key), value))


def _filled(buffer: BaseBuffer, there: Any, saved: Any) -> Any:
    if isinstance(there, dict):
        return {key: _filled(buffer, there[key], value) if key in there else value for key, value in saved.items()}
    if not _is_table(buffer, there):
        return saved
    there[: len(saved)] = saved
    return there


def _is_table(buffer: BaseBuffer, value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 0 and value.shape[0] == buffer.buffer_size


def _random_numbers(model: BaseAlgorithm) -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    actions = model.action_space.np_random.bit_generator.state
    general = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    return general | {"cuda": cuda, "actions": actions}


def _restore_random_numbers(model: BaseAlgorithm, state: dict[str, Any]) -> None:
    model.action_space.np_random.bit_generator.state = state["actions"]
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _sizes(folder: str | None) -> dict[str, int]:
    if folder is None:
        return {}
    return {str(file): file.stat().st_size for file in Path(folder).glob("events.*")}


def _cut(sizes: dict[str, int]) -> None:
    """Take away what was logged after the snapshot, for it comes again."""
    for name, size in sizes.items():
        if Path(name).is_file() and Path(name).stat().st_size > size:
            os.truncate(name, size)
