"""Small untrained agents for tests of export: every algorithm on vectors and on pictures, each with a symmetry."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO, SAC, TD3
from torch import nn

from equirl import MDPSymmetry, cyclic_group, image_representation, signed_permutation_representation
from equirl.agents import (
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantQRDQNPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
    GridCNN,
)
from equirl.agents.orbit_network import OrbitNetwork
from equirl.representations import Representation

__all__ = ["ALGORITHMS", "NETWORKS", "Still", "agent", "symmetry_of"]

ALGORITHMS: dict[str, tuple[Any, Any, bool]] = {
    "dqn": (DQN, EquivariantDQNPolicy, False),
    "qrdqn": (QRDQN, EquivariantQRDQNPolicy, False),
    "ppo": (PPO, EquivariantActorCriticPolicy, False),
    "ppo_box": (PPO, EquivariantActorCriticPolicy, True),
    "sac": (SAC, EquivariantSACPolicy, True),
    "td3": (TD3, EquivariantTD3Policy, True),
}
"""Algorithm, policy and whether the actions are a ``Box``."""

NETWORKS = ("mlp", "cnn")

_C4 = cyclic_group(4)
_TURNS = [[0, 1], [1, 0], [0, 1], [1, 0]]
_SIGNS = [[1, 1], [-1, 1], [-1, -1], [1, -1]]
_OBSERVATIONS: dict[str, tuple[spaces.Space[Any], Representation]] = {
    "mlp": (
        spaces.Box(-np.inf, np.inf, (4,), np.float32),
        signed_permutation_representation(
            _C4, [[*row, *(2 + i for i in row)] for row in _TURNS], [[*row, *row] for row in _SIGNS]
        ),
    ),
    "cnn": (spaces.Box(0, 255, (2, 5, 5), np.uint8), image_representation(_C4, (2, 5, 5))),
}
_BOX = spaces.Box(-2, 2, (2,), np.float32)


class Still(gym.Env[Any, Any]):
    """A world in which nothing happens, for its spaces."""

    def __init__(self, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin anywhere."""
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go anywhere."""
        return self.observation_space.sample(), 0.0, False, False, {}


def symmetry_of(network: str, box: bool) -> MDPSymmetry:
    """Return quarter turns of vectors or pictures, and of four directions or of a vector of two numbers."""
    turns = [[(i - g) % 4 for i in range(4)] for g in range(4)]
    actions = (
        signed_permutation_representation(_C4, _TURNS, _SIGNS)
        if box
        else signed_permutation_representation(_C4, turns, [[1] * 4] * 4)
    )
    return MDPSymmetry("quarter-turns", _OBSERVATIONS[network][1], actions)


def agent(name: str, network: str, method: str | None, **policy_kwargs: Any) -> Any:
    """Return an agent whose answers differ much between views; without a method, SB3's own."""
    algorithm, policy, box = ALGORITHMS[name]
    world = Still(_OBSERVATIONS[network][0], _BOX if box else spaces.Discrete(4))
    settings: dict[str, Any] = {"n_steps": 16, "batch_size": 16} if name.startswith("ppo") else {"buffer_size": 10}
    kwargs: dict[str, Any] = {"net_arch": [16, 16], **policy_kwargs}
    if network == "cnn":
        kwargs |= {"features_extractor_class": GridCNN, "features_extractor_kwargs": {"features_dim": 16}}
    if method is not None:
        kwargs |= {"symmetry": symmetry_of(network, box), "method": method}
    model = algorithm(policy if method else "MlpPolicy", world, policy_kwargs=kwargs, device="cpu", seed=0, **settings)
    torch.manual_seed(0)
    for part in model.policy.modules():
        if isinstance(part, nn.Linear):  # some start at zero, or nearly, and λ is constant then
            nn.init.orthogonal_(part.weight, 1.5)
    assert method is None or any(isinstance(part, OrbitNetwork) for part in model.policy.modules())
    return model
