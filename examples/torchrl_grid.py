"""Train on the 7x7 grid with TorchRL: its collector, replay buffer and DQN loss, with an equivariant Q-value actor."""

import os

import torch
from tensordict.nn import TensorDictSequential
from torch import nn
from torchrl.collectors import Collector
from torchrl.data import LazyTensorStorage, TensorDictReplayBuffer
from torchrl.envs import GymEnv
from torchrl.modules import EGreedyModule
from torchrl.objectives import DQNLoss, HardUpdate

from equirl import equivariance_error
from equirl.integrations.torchrl import equivariant_q_actor

STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "20000"))
torch.manual_seed(0)

env = GymEnv("equirl.envs:equirl/GridWorld-v0", categorical_action_encoding=True)
backbone = nn.Sequential(nn.Flatten(), nn.Linear(147, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
actor = equivariant_q_actor(backbone, "grid-d4", env)
explore = EGreedyModule(env.action_spec, eps_init=1.0, eps_end=0.05, annealing_num_steps=STEPS // 2)
loss = DQNLoss(actor, action_space=env.action_spec, delay_value=True)
loss.make_value_estimator(gamma=0.95)
target, adam = HardUpdate(loss, value_network_update_interval=250), torch.optim.Adam(loss.parameters(), 1e-3)
buffer = TensorDictReplayBuffer(storage=LazyTensorStorage(STEPS), batch_size=128)
policy = TensorDictSequential(actor, explore)
for frames in Collector(env, policy, frames_per_batch=50, total_frames=STEPS):
    buffer.extend(frames)
    explore.step(frames.numel())
    for _ in range(10):
        adam.zero_grad()
        loss(buffer.sample())["loss"].backward()
        adam.step()
        target.step()
print(f"mean reward of the last steps: {float(frames['next', 'reward'].mean()):.2f}")
q_net, observations = actor.module[0].module, buffer.sample()["observation"]
print(f"equivariance error: {equivariance_error(q_net, q_net.input_rep, q_net.output_rep, observations.float()):.1e}")
