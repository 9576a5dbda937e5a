"""Train on the 7x7 grid with Tianshou: its DQN gets an equivariant network as any other model."""

import os

import gymnasium as gym
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from torch import nn

from equirl import Equitune, build_symmetry, equivariance_error


class QNetwork(Equitune):  # Tianshou calls it with arrays, and takes a recurrent state beside the Q-values
    def forward(self, obs, state=None, info=None):
        return super().forward(torch.as_tensor(obs).float()), state


STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "10000"))
torch.manual_seed(0)
envs = DummyVectorEnv([lambda: gym.make("equirl.envs:equirl/GridWorld-v0") for _ in range(8)])
grid = build_symmetry("grid-d4", (3, 7, 7), 4)
backbone = nn.Sequential(nn.Flatten(), nn.Linear(147, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
q_net = QNetwork(backbone, grid.observation, grid.action)
policy = DiscreteQLearningPolicy(model=q_net, action_space=envs.action_space[0], eps_training=0.3)
algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), gamma=0.95, target_update_freq=250)
training = Collector(algorithm, envs, VectorReplayBuffer(STEPS, 8), exploration_noise=True)
length = {"max_epochs": 1, "epoch_num_steps": STEPS, "collection_step_num_env_steps": 40, "show_progress": False}
tests = {"test_collector": Collector(algorithm, envs), "test_step_num_episodes": 100}
result = algorithm.run_training(OffPolicyTrainerParams(training_collector=training, **length, **tests))
print(f"mean return over 100 episodes: {result.best_score:.2f}")
observations = torch.as_tensor(training.buffer.sample(64)[0].obs).float()
error = equivariance_error(lambda x: q_net(x)[0], grid.observation, grid.action, observations)
print(f"equivariance error: {error:.1e}")
