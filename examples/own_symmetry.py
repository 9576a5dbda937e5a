"""Declare a symmetry of an existing environment, check it, register it, and use it by name."""

import os

import gymnasium as gym
from stable_baselines3 import PPO

from equirl import (
    MDPSymmetry,
    cyclic_group,
    permutation_representation,
    register_symmetry,
    signed_permutation_representation,
)
from equirl.agents import EquivariantActorCriticPolicy
from equirl.envs import check_symmetry


def mirrored_cartpole(observation_shape, n_actions):
    """Return CartPole's mirror: all four numbers change sign, and left and right change places."""
    mirror = cyclic_group(2)
    return MDPSymmetry(
        "my-cartpole",
        observation=signed_permutation_representation(mirror, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4]),
        action=permutation_representation(mirror, [[0, 1], [1, 0]]),
    )


register_symmetry("my-cartpole", mirrored_cartpole)
report = check_symmetry(gym.make("CartPole-v1"), "my-cartpole", n_transitions=200, n_resets=200)
print(report)

model = PPO(EquivariantActorCriticPolicy, "CartPole-v1", policy_kwargs={"symmetry": "my-cartpole"}, n_steps=256, seed=0)
model.learn(int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "20000")))
