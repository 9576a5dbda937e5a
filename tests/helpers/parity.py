"""Training with a group of one element beside Stable-Baselines3's own policies, at equal seeds.

With |G| = 1 an equivariant policy is an ordinary one, so that it must begin with the same weights, draw the same random
numbers and end with the same weights.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import gymnasium as gym
import torch
from sb3_contrib import QRDQN, TQC, TRPO, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from torch import Tensor

import equirl.envs
from equirl import MDPSymmetry, cyclic_group, trivial_representation
from equirl.agents import (
    METHODS,
    EquivariantActorCriticPolicy,
    EquivariantCrossQPolicy,
    EquivariantDQNPolicy,
    EquivariantQRDQNPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
    EquivariantTQCPolicy,
)
from equirl.envs.actions import ActionLayout

__all__ = ["ALGORITHMS", "METHODS", "largest_gap", "train_pair"]

assert equirl.envs  # importing it registers GridWorld


@dataclass(frozen=True)
class Algorithm:
    """An algorithm of SB3, its equivariant policy, and settings that let both learn within a few hundred steps."""

    algorithm: type[Any]
    policy: type[Any]
    settings: dict[str, Any]
    policy_kwargs: dict[str, Any]


_OFF_POLICY = {"learning_starts": 40, "target_update_interval": 40, "buffer_size": 2000, "train_freq": 4}
_FUSED = {"optimizer_kwargs": {"fused": True}}  # equirl's default; SB3's Adam is not fused, and rounds otherwise
_FUSED_EPS = {"optimizer_kwargs": {"fused": True, "eps": 1e-5}}
_SMALL = {"n_quantiles": 20}
_CONTINUOUS = {"learning_starts": 40, "buffer_size": 2000, "train_freq": 2, "batch_size": 32}
_NARROW = {"net_arch": [32, 32]}
_CROSSQ = {"optimizer_kwargs": {"fused": True, "betas": (0.5, 0.999)}}

ALGORITHMS = {
    "dqn": Algorithm(DQN, EquivariantDQNPolicy, _OFF_POLICY, _FUSED),
    "qrdqn": Algorithm(QRDQN, EquivariantQRDQNPolicy, _OFF_POLICY, {**_FUSED, **_SMALL}),
    "ppo": Algorithm(PPO, EquivariantActorCriticPolicy, {"n_steps": 64, "n_epochs": 4}, _FUSED_EPS),
    "a2c": Algorithm(A2C, EquivariantActorCriticPolicy, {}, {}),  # RMSprop
    "a2c-adam": Algorithm(A2C, EquivariantActorCriticPolicy, {"use_rms_prop": False}, _FUSED_EPS),
    "trpo": Algorithm(TRPO, EquivariantActorCriticPolicy, {"n_steps": 64, "batch_size": 64}, _FUSED_EPS),
    "sac": Algorithm(SAC, EquivariantSACPolicy, _CONTINUOUS, {**_FUSED, **_NARROW}),
    "td3": Algorithm(TD3, EquivariantTD3Policy, _CONTINUOUS, {**_FUSED, **_NARROW}),
    "ddpg": Algorithm(DDPG, EquivariantTD3Policy, _CONTINUOUS, {**_FUSED, **_NARROW}),
    "tqc": Algorithm(TQC, EquivariantTQCPolicy, _CONTINUOUS, {**_FUSED, **_NARROW}),
    "crossq": Algorithm(CrossQ, EquivariantCrossQPolicy, _CONTINUOUS, {**_CROSSQ, **_NARROW}),
}


def _trained(
    name: str, policy: Any, environment_id: str, steps: int, seed: int, **kwargs: Any
) -> list[dict[str, Tensor]]:
    """Return the policy's weights before and after training."""
    chosen = ALGORITHMS[name]
    policy_kwargs = copy.deepcopy(chosen.policy_kwargs) | kwargs
    agent = chosen.algorithm(
        policy, gym.make(environment_id), seed=seed, policy_kwargs=policy_kwargs, device="cpu", **chosen.settings
    )
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(steps)
    return [before, agent.policy.state_dict()]


@cache
def _stock(name: str, environment_id: str, steps: int, seed: int) -> list[dict[str, Tensor]]:
    return _trained(name, "MlpPolicy", environment_id, steps, seed)


def train_pair(
    name: str, method: str, environment_id: str, steps: int, seed: int
) -> list[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Train SB3's own policy and an equivariant one, and return both's weights: before, and after training.

    Args:
        name: One of ``ALGORITHMS``.
        method: One of ``METHODS``.
        environment_id: An environment with ``Box`` observations.
        steps: Environment steps.
        seed: Seed of both.
    """
    environment = gym.make(environment_id)
    group = cyclic_group(1)
    symmetry = MDPSymmetry(
        "trivial",
        trivial_representation(group, environment.observation_space.shape or ()),
        trivial_representation(group, (ActionLayout(environment.action_space).size,)),
    )
    policy = ALGORITHMS[name].policy
    ours = _trained(name, policy, environment_id, steps, seed, symmetry=symmetry, method=method)
    return list(zip(_stock(name, environment_id, steps, seed), ours, strict=True))


def largest_gap(stock: dict[str, Tensor], ours: dict[str, Tensor]) -> float:
    """Return the largest absolute difference of the weights that both have; ours may have λ's besides.

    Raises:
        KeyError: Weights of stock are not among ours.
    """
    return max(float((ours[key] - value).abs().max()) for key, value in stock.items())


torch.set_num_threads(1)
