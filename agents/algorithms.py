"""The algorithms that equirl symmetrizes, by the names of rl_zoo3."""

from __future__ import annotations

from sb3_contrib import QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["ALGORITHMS"]

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {
    "a2c": A2C,
    "dqn": DQN,
    "ppo": PPO,
    "qrdqn": QRDQN,
    "sac": SAC,
    "td3": TD3,
    "ddpg": DDPG,
    "tqc": TQC,
    "crossq": CrossQ,
    "trpo": TRPO,
    "ppo_lstm": RecurrentPPO,
    "ppo_mask": MaskablePPO,
}
"""Algorithms that equirl symmetrizes, by the names of rl_zoo3."""
