"""Train the agent of the README on the 7x7 grid; print its mean return (1 for each goal) and its equivariance error."""

import os

import torch
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy

from equirl import equivariance_error
from equirl.agents import EquivariantDQNPolicy, make_vectorized_env

torch.set_num_threads(1)  # small networks train several times faster on one thread
STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "20000"))

envs = make_vectorized_env("equirl/GridWorld-v0", n_envs=128, seed=0)
settings = {"learning_rate": 2e-3, "gamma": 0.95, "train_freq": 1, "gradient_steps": 4, "target_update_interval": 250}
kwargs = {"symmetry": "grid-d4"}
model = DQN(EquivariantDQNPolicy, envs, policy_kwargs=kwargs, exploration_fraction=0.5, seed=0, **settings)
model.learn(STEPS)

mean_return, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=100)
print(f"mean return over 100 episodes: {mean_return:.2f}")

q_net, observations = model.policy.q_net, model.replay_buffer.sample(64).observations
error = equivariance_error(q_net, q_net.input_rep, q_net.output_rep, observations)
print(f"equivariance error: {error:.1e}")
