"""The observations an agent knows: from its replay buffer, or from its own rollouts."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv

from equirl.representations import Tree

__all__ = ["n_rows", "replay_observations", "rollout_observations", "rows_of"]


def n_rows(observations: Tree) -> int:
    """Return the length of the batch axis."""
    return len(observations) if isinstance(observations, torch.Tensor) else n_rows(next(iter(observations.values())))


def rows_of(observations: Tree, rows: torch.Tensor) -> Tree:
    """Return some rows of a batch of observations."""
    if isinstance(observations, torch.Tensor):
        return observations[rows]
    return {key: rows_of(part, rows) for key, part in observations.items()}


def replay_observations(model: BaseAlgorithm, n_states: int = 10_000, seed: int = 0) -> Tree:
    """Return observations drawn from the agent's replay buffer without replacement, as the agent saw them.

    Args:
        model: An off-policy agent whose replay buffer is not empty.
        n_states: How many at most.
        seed: Seed of the draw.

    Raises:
        ValueError: There is no replay buffer or it is empty; the message says how to load one.
    """
    buffer = getattr(model, "replay_buffer", None)
    if not isinstance(buffer, ReplayBuffer) or buffer.size() == 0:
        raise ValueError(
            f"this {type(model).__name__} has no replay buffer with states in it: load the one it was trained with "
            "(model.load_replay_buffer(file)), or collect states with equirl.agents.rollout_observations(model, env)"
        )
    random = np.random.default_rng(seed)
    picked = random.permutation(buffer.size() * buffer.n_envs)[:n_states]
    rows, columns = picked // buffer.n_envs, picked % buffer.n_envs
    if isinstance(buffer, DictReplayBuffer):
        chosen: Any = {key: values[rows, columns] for key, values in buffer.observations.items()}
    else:
        chosen = buffer.observations[rows, columns]
    if (normalize := model.get_vec_normalize_env()) is not None:
        chosen = normalize.normalize_obs(chosen)  # the buffer holds what the environment gave, not what the agent saw
    if not isinstance(chosen, dict):
        chosen = chosen.reshape(len(chosen), *(model.observation_space.shape or ()))  # Discrete ones are kept as [N, 1]
    return cast(Tree, obs_as_tensor(chosen, model.device))


def rollout_observations(
    model: BaseAlgorithm, env: GymEnv, n_states: int = 10_000, deterministic: bool = False, seed: int = 0
) -> Tree:
    """Return observations from the agent's own rollouts in an environment it knows, ``[N, *observation]``.

    Args:
        model: Any SB3 agent.
        env: The environment, perhaps vectorized.
        n_states: How many.
        deterministic: Whether it acts greedily; exploring agents see more.
        seed: Seed of the environment's resets.
    """
    venv: VecEnv = type(model)._wrap_env(env, monitor_wrapper=False)
    venv.seed(seed)
    observation: Any = venv.reset()
    seen: list[Any] = []
    for _ in range(-(-n_states // venv.num_envs)):
        seen.append(model.policy.obs_to_tensor(observation)[0])
        actions, _ = model.predict(observation, deterministic=deterministic)
        observation, *_ = venv.step(actions)
    rows = torch.arange(n_states, device=model.device)
    return rows_of(_concatenated(seen), rows)


def _concatenated(batches: list[Any]) -> Tree:
    if isinstance(batches[0], torch.Tensor):
        return torch.cat(batches)
    return {key: _concatenated([batch[key] for batch in batches]) for key in batches[0]}
