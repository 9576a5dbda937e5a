"""Equivariant agents for Stable-Baselines3: policies, symmetrization of trained agents, and the command line."""

from equirl.agents.actor_critic import EquivariantActorCriticPolicy
from equirl.agents.actor_critic_masked import EquivariantMaskablePolicy
from equirl.agents.actor_critic_recurrent import EquivariantRecurrentPolicy
from equirl.agents.agent_card import AgentCard, evaluate_for_card
from equirl.agents.agent_folder import save_agent_folder
from equirl.agents.callbacks import SymmetryCallback
from equirl.agents.crossq import EquivariantCrossQPolicy
from equirl.agents.dqn import EquivariantDQNPolicy, EquivariantQNetwork
from equirl.agents.features_extractors import GridCNN
from equirl.agents.gate_training import GateTraining
from equirl.agents.lambda_fit import LambdaFit, LambdaFitReport, fit_lambda
from equirl.agents.loading import load_agent
from equirl.agents.mirror_loss import MirrorLossCallback
from equirl.agents.normalization import symmetrize_statistics
from equirl.agents.open_folder import load_normalization
from equirl.agents.orbit_statistics import SymmetricVecNormalize
from equirl.agents.policies import policy_with
from equirl.agents.proxy_losses import BellmanResidual, Disagreement, Novelty, agent_proxy_loss
from equirl.agents.qrdqn import EquivariantQRDQNPolicy, EquivariantQuantileNetwork
from equirl.agents.replay import SymmetryHerReplayBuffer, SymmetryReplayBuffer
from equirl.agents.rollout import SymmetryMaskableRolloutBuffer, SymmetryRolloutBuffer
from equirl.agents.sac import EquivariantSACPolicy
from equirl.agents.self_play import PolicyOpponent, SelfPlayCallback
from equirl.agents.spaces import observation_shape, resolve_symmetry
from equirl.agents.symmetrization import symmetrize_agent
from equirl.agents.td3 import EquivariantTD3Policy
from equirl.agents.tqc import EquivariantTQCPolicy
from equirl.agents.vector_env import GridWorldVecEnv, make_vectorized_env
from equirl.agents.visited_states import replay_observations, rollout_observations
from equirl.methods import METHODS, make_aggregator

__all__ = [
    "METHODS",
    "AgentCard",
    "BellmanResidual",
    "Disagreement",
    "EquivariantActorCriticPolicy",
    "EquivariantCrossQPolicy",
    "EquivariantDQNPolicy",
    "EquivariantMaskablePolicy",
    "EquivariantQNetwork",
    "EquivariantQRDQNPolicy",
    "EquivariantQuantileNetwork",
    "EquivariantRecurrentPolicy",
    "EquivariantSACPolicy",
    "EquivariantTD3Policy",
    "EquivariantTQCPolicy",
    "GateTraining",
    "GridCNN",
    "GridWorldVecEnv",
    "LambdaFit",
    "LambdaFitReport",
    "MirrorLossCallback",
    "Novelty",
    "PolicyOpponent",
    "SelfPlayCallback",
    "SymmetricVecNormalize",
    "SymmetryCallback",
    "SymmetryHerReplayBuffer",
    "SymmetryMaskableRolloutBuffer",
    "SymmetryReplayBuffer",
    "SymmetryRolloutBuffer",
    "agent_proxy_loss",
    "evaluate_for_card",
    "fit_lambda",
    "load_agent",
    "load_normalization",
    "make_aggregator",
    "make_vectorized_env",
    "observation_shape",
    "policy_with",
    "replay_observations",
    "resolve_symmetry",
    "rollout_observations",
    "save_agent_folder",
    "symmetrize_agent",
    "symmetrize_statistics",
]
