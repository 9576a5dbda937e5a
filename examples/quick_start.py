"""Train an equivariant DQN on the 7x7 grid and print its mean return and its equivariance error."""

import os

import gymnasium as gym
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

import equirl.envs  # noqa: F401  (registers equirl/GridWorld-v0)
from equirl import equivariance_error
from equirl.agents import EquivariantDQNPolicy

torch.set_num_threads(1)  # small networks train several times faster on one thread
STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "10000"))

model = DQN(
    EquivariantDQNPolicy,
    gym.make("equirl/GridWorld-v0"),
    policy_kwargs={"symmetry": "grid-d4", "net_arch": [128, 128]},
    learning_rate=5e-4,
    batch_size=64,
    gamma=0.95,
    learning_starts=200,
    train_freq=1,
    target_update_interval=250,
    exploration_fraction=0.45,
    exploration_final_eps=0.1,
    seed=0,
)
model.learn(STEPS)

mean_return, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=50)
print(f"mean return over 50 episodes: {mean_return:.2f}")

q_net, observations = model.policy.q_net, model.replay_buffer.sample(64).observations
error = equivariance_error(q_net, q_net.input_rep, q_net.output_rep, observations)
print(f"equivariance error: {error:.1e}")
