"""Tiny agents that targets share: trained for a few steps, once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from sb3_contrib import QRDQN
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

import equirl.envs  # noqa: F401  (registers the environments)
from equirl.agents import EquivariantDQNPolicy

__all__ = ["GRID", "agent", "environments"]

GRID = "equirl/GridWorld-v0"
_NETWORK: dict[str, Any] = {"net_arch": [8]}
_OFF_POLICY: dict[str, Any] = {"learning_starts": 8, "buffer_size": 64, "batch_size": 8}


@lru_cache
def agent(kind: str) -> BaseAlgorithm:
    """Return a tiny agent: ``"dqn"``, ``"qrdqn"``, ``"ppo"``, ``"a2c"``, or ``"equivariant"`` and ``"lambda"`` ones."""
    env = environments()
    made: BaseAlgorithm
    if kind == "ppo":
        made = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, policy_kwargs=_NETWORK)
    elif kind == "a2c":
        made = A2C("MlpPolicy", env, seed=0, policy_kwargs=_NETWORK)
    elif kind == "qrdqn":
        made = QRDQN("MlpPolicy", env, seed=0, policy_kwargs={**_NETWORK, "n_quantiles": 5}, **_OFF_POLICY)
    elif kind == "dqn":
        made = DQN("MlpPolicy", env, seed=0, policy_kwargs=_NETWORK, **_OFF_POLICY)
    else:
        method = {"equivariant": "equitune", "lambda": "lambda_equitune"}[kind]
        symmetric = {**_NETWORK, "symmetry": "grid-c4", "method": method}
        made = DQN(EquivariantDQNPolicy, env, seed=0, policy_kwargs=symmetric, **_OFF_POLICY)
    return made.learn(32)


def environments(n_envs: int = 2, size: int = 3) -> VecEnv:
    """Return a few tiny grids."""
    return make_vec_env(GRID, n_envs, seed=0, env_kwargs={"size": size})
