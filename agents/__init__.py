"""Equivariant agents for Stable-Baselines3: policies, features extractors, callbacks, and the command line."""

from equirl.agents.callbacks import SymmetryCallback
from equirl.agents.dqn import EquivariantDQNPolicy, EquivariantQNetwork
from equirl.agents.features_extractors import GridCNN
from equirl.agents.methods import METHODS, make_aggregator
from equirl.agents.policies import policy_with
from equirl.agents.replay import SymmetryReplayBuffer
from equirl.agents.spaces import observation_shape, resolve_symmetry

__all__ = [
    "METHODS",
    "EquivariantDQNPolicy",
    "EquivariantQNetwork",
    "GridCNN",
    "SymmetryCallback",
    "SymmetryReplayBuffer",
    "make_aggregator",
    "observation_shape",
    "policy_with",
    "resolve_symmetry",
]
