"""The observations an agent knows: from its replay buffer, or from its own rollouts."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from equirl.agents.masks import predict_legal
from equirl.agents.measuring import measurement
from equirl.agents.observations import as_observations
from equirl.agents.sb3_doors import as_vec_env, may_have_seen_normalization
from equirl.agents.spaces import observation_shape
from equirl.arguments import whole_number
from equirl.representations import Tree, map_tensors

__all__ = [
    "buffer_rows",
    "check_environments",
    "n_rows",
    "replay_observations",
    "rollout_histories",
    "rollout_observations",
    "rows_of",
]


def n_rows(observations: Tree) -> int:
    """Return the length of the batch axis."""
    return len(observations) if isinstance(observations, torch.Tensor) else n_rows(next(iter(observations.values())))


def rows_of(observations: Tree, rows: torch.Tensor) -> Tree:
    """Return some rows of a batch of observations."""
    return map_tensors(observations, lambda values: values[rows.to(values.device)])


def replay_observations(model: BaseAlgorithm, n_states: int = 10_000, seed: int = 0) -> Tree:
    """Return observations drawn from the agent's replay buffer without replacement, as the agent saw them.

    Args:
        model: An off-policy agent whose replay buffer is not empty.
        n_states: How many at most.
        seed: Seed of the draw.

    Raises:
        TypeError: ``n_states`` or ``seed`` is no number.
        ValueError: There is no replay buffer or it is empty (the message says how to load one), it holds observations
            of another space, or ``n_states`` is less than 1.
    """
    n_states, seed = whole_number(n_states, "n_states", 1), whole_number(seed, "seed", 0)
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer) or buffer.size() == 0:
        raise ValueError(
            f"this {type(model).__name__} has no replay buffer with states in it: load the one it was trained with "
            "(model.load_replay_buffer(file)), or collect states with equirl.agents.rollout_observations(model, env)"
        )
    random = np.random.default_rng(seed)
    picked = random.permutation(buffer.size() * buffer.n_envs)[:n_states]
    chosen = buffer_rows(buffer, picked // buffer.n_envs, picked % buffer.n_envs)
    if (normalize := model.get_vec_normalize_env()) is not None:
        chosen = normalize.normalize_obs(chosen)  # the buffer holds what the environment gave, not what the agent saw
    return as_observations(chosen, model.observation_space, model.device)


def buffer_rows(buffer: Any, steps: NDArray[np.int64], columns: NDArray[np.int64]) -> Any:
    """Return observations of an SB3 buffer, those of the environments ``columns`` at the positions ``steps``."""
    if isinstance(buffer.observations, dict):
        return {key: values[steps, columns] for key, values in buffer.observations.items()}
    return buffer.observations[steps, columns]


def rollout_observations(
    model: BaseAlgorithm, env: GymEnv, n_states: int = 10_000, deterministic: bool = False, seed: int = 0
) -> Tree:
    """Return observations from the agent's own rollouts in an environment it knows, ``[N, *observation]``.

    A recurrent agent remembers the episode while it acts.

    Equal seeds give equal observations, as long as the environment draws from its own random numbers, its spaces' or
    the global ones. The agent, all random numbers and running normalisations stay as they were; the environment is left
    in the middle of an episode, so reset it before you use it further. Do not give the environment of a training that
    is going on (in a callback, say).

    Args:
        model: Any SB3 agent.
        env: The environment, perhaps vectorized; where the agent was trained with ``VecNormalize``, one with its
            statistics.
        n_states: How many.
        deterministic: Whether it acts greedily; exploring agents see more.
        seed: Seed of everything that is drawn.

    Raises:
        TypeError: ``n_states`` or ``seed`` is no number.
        ValueError: ``n_states`` is less than 1, the environment has other spaces than the agent, or it normalises
            observations in another way than the agent's own environment.
    """
    return rollout_histories(model, env, n_states, deterministic, seed)[0]


def rollout_histories(
    model: BaseAlgorithm, env: GymEnv, n_states: int = 10_000, deterministic: bool = False, seed: int = 0
) -> tuple[Tree, NDArray[np.bool_]]:
    """Return the observations of ``rollout_observations``, and where episodes start in them.

    Args:
        model: As for ``rollout_observations``.
        env: As for ``rollout_observations``.
        n_states: As for ``rollout_observations``.
        deterministic: As for ``rollout_observations``.
        seed: As for ``rollout_observations``.

    Returns:
        Observations ``[N, *observation]``, those of all environments at one step after another, and a flag for each
        environment and step, ``[T, n_envs]``, ``T`` times ``n_envs`` at least ``N``.

    Raises:
        TypeError: As for ``rollout_observations``.
        ValueError: As for ``rollout_observations``.
    """
    n_states, seed = whole_number(n_states, "n_states", 1), whole_number(seed, "seed", 0)
    venv: VecEnv = as_vec_env(type(model), env, monitored=False)
    check_environments(model, venv)
    seen: list[Tree] = []
    starts = [np.ones(venv.num_envs, dtype=bool)]
    with measurement(model, venv, seed):
        observation: Any = venv.reset()
        state: Any = None
        for _ in range(-(-n_states // venv.num_envs)):
            rows: Any = model.policy.obs_to_tensor(observation)[0]
            seen.append(map_tensors(rows, torch.clone))  # some environments use the same memory for all steps
            actions, state = predict_legal(model, observation, venv, deterministic, state, starts[-1])
            observation, _, done, _ = venv.step(actions)
            starts.append(np.array(done, dtype=bool))
    return rows_of(_concatenated(seen), torch.arange(n_states)), np.stack(starts[:-1])


def check_environments(model: BaseAlgorithm, environments: VecEnv) -> None:
    """Raise unless an agent sees in some environments what it knows; warn where that cannot be told for sure.

    Args:
        model: The agent.
        environments: Where it is to act.

    Raises:
        ValueError: Other spaces, or a ``VecNormalize`` other than that of the agent's own environment.
    """
    seen, given = model.observation_space, environments.observation_space
    same_kind = isinstance(seen, spaces.Dict) == isinstance(given, spaces.Dict)
    if not same_kind or observation_shape(seen) != observation_shape(given) or not _as_many(seen, given):
        raise ValueError(f"the agent sees {seen}, but the environment gives {given}; use the environment it knows")
    if model.action_space != environments.action_space:
        raise ValueError(
            f"the agent acts in {model.action_space}, but the environment takes {environments.action_space}; use the "
            "environment it knows"
        )
    ours, theirs = (_observation_normalization(venv) for venv in (model.get_env(), environments))
    known = model.get_env() or environments
    if unwrap_vec_normalize(known) is None and theirs is None and may_have_seen_normalization(model):
        warnings.warn(
            "this agent was trained in a VecNormalize environment, and the one given is none: if observations were "
            "normalised (norm_obs), what it does here means nothing. Load the statistics: VecNormalize.load(file, env)",
            stacklevel=4,
        )
    if model.get_env() is None or ours is theirs:
        return
    if theirs is None:
        raise ValueError(
            "the agent sees observations normalised by VecNormalize, but the environment given does not normalise "
            "them: wrap it with the agent's statistics, VecNormalize.load(file, env)"
        )
    if ours is None:
        raise ValueError(
            "the environment given normalises observations (VecNormalize), but the agent's own does not: give one "
            "without VecNormalize, or with norm_obs=False"
        )
    if not _same_statistics(ours.obs_rms, theirs.obs_rms):
        raise ValueError(
            "the environment given normalises observations with other statistics than the agent's own: copy them, "
            "stable_baselines3.common.vec_env.sync_envs_normalization(model.get_env(), environments)"
        )


def _as_many(one: spaces.Space[Any], other: spaces.Space[Any]) -> bool:
    """Return whether both spaces have the same numbers of values, where these are limited."""
    if isinstance(one, (spaces.Discrete, spaces.MultiDiscrete)) or isinstance(
        other, (spaces.Discrete, spaces.MultiDiscrete)
    ):
        return one == other
    if isinstance(one, spaces.Dict) and isinstance(other, spaces.Dict):
        return all(_as_many(part, other.spaces[key]) for key, part in one.spaces.items())
    return True


def _observation_normalization(environments: VecEnv | None) -> VecNormalize | None:
    normalize = None if environments is None else unwrap_vec_normalize(environments)
    return normalize if normalize is not None and normalize.norm_obs else None


def _same_statistics(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict) or isinstance(theirs, dict):
        return (
            isinstance(ours, dict)
            and isinstance(theirs, dict)
            and ours.keys() == theirs.keys()
            and all(_same_statistics(ours[key], theirs[key]) for key in ours)
        )
    return bool(np.allclose(ours.mean, theirs.mean, rtol=1e-3) and np.allclose(ours.var, theirs.var, rtol=1e-3))


def _concatenated(batches: list[Any]) -> Tree:
    if isinstance(batches[0], torch.Tensor):
        return torch.cat(batches)
    return {key: _concatenated([batch[key] for batch in batches]) for key in batches[0]}
