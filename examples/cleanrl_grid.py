"""A single-file DQN in the style of CleanRL on the 7x7 grid; only its QNetwork knows of the symmetry."""

import os

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from equirl import Equitune, build_symmetry, equivariance_error


class QNetwork(Equitune):
    def __init__(self, env):
        symmetry = build_symmetry("grid-d4", env.observation_space.shape, int(env.action_space.n))
        layers = (nn.Flatten(), nn.Linear(147, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
        super().__init__(nn.Sequential(*layers), symmetry.observation, symmetry.action)


torch.manual_seed(0)
env = gym.make("equirl.envs:equirl/GridWorld-v0")
q_net, target = QNetwork(env), QNetwork(env)
adam, buffer, obs = torch.optim.Adam(q_net.parameters(), 1e-3), [], env.reset(seed=0)[0]
for step in range(int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "10000"))):
    random = torch.rand(()) < max(0.05, 1 - step / 5000)
    action = int(torch.randint(4, ()) if random else q_net(torch.tensor(obs)[None].float()).argmax())
    next_obs, reward, done, truncated, _ = env.step(action)
    buffer.append((obs, action, reward, next_obs, done))
    obs = env.reset()[0] if done or truncated else next_obs
    rows = [buffer[i] for i in torch.randint(len(buffer), (64,))]
    s, a, r, s2, d = (torch.tensor(np.array(column)).float() for column in zip(*rows, strict=True))
    aim = r + 0.95 * (1 - d) * target(s2).amax(dim=1).detach()
    adam.zero_grad()
    nn.functional.smooth_l1_loss(q_net(s).gather(1, a.long()[:, None])[:, 0], aim).backward()
    adam.step()
    if step % 250 == 0:
        target.load_state_dict(q_net.state_dict())
print(f"reward a step: {np.mean([row[2] for row in buffer[-1000:]]):.2f}", end=", ")
print(f"equivariance error: {equivariance_error(q_net, q_net.input_rep, q_net.output_rep, s):.1e}")
