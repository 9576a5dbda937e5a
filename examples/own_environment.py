"""Write an environment, declare its mirror symmetry, check it, and train on it."""

import os

import gymnasium as gym
import numpy as np
from stable_baselines3 import DQN

from equirl import MDPSymmetry, cyclic_group, permutation_representation, signed_permutation_representation
from equirl.agents import EquivariantDQNPolicy
from equirl.envs import check_symmetry, register_placer


class Corridor(gym.Env):
    """Walk to 0. The observation is the position; action 0 steps left, action 1 steps right."""

    observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.position.copy(), {}

    def step(self, action):
        self.position = np.clip(self.position + np.float32(0.2 * action - 0.1), -1, 1)
        return self.position.copy(), -1.0, bool(abs(self.position[0]) < 0.06), False, {}


mirror = cyclic_group(2)
flip = signed_permutation_representation(mirror, [[0], [0]], [[1], [-1]])  # x becomes -x
swap = permutation_representation(mirror, [[0, 1], [1, 0]])  # left becomes right
symmetry = MDPSymmetry("corridor-mirror", observation=flip, action=swap)
register_placer(Corridor, lambda env, observation: setattr(env, "position", observation.copy()))
print(check_symmetry(Corridor(), symmetry, n_transitions=200, n_resets=200))
env = gym.wrappers.TimeLimit(Corridor(), 30)
model = DQN(EquivariantDQNPolicy, env, policy_kwargs={"symmetry": symmetry}, learning_starts=100, seed=0)
model.learn(int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "5000")))
