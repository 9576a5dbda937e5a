"""Make a trained agent equivariant: it has seen goals in one quadrant, and now reaches goals in all four."""

import os

import gymnasium as gym
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

import equirl.envs  # noqa: F401  (registers equirl/GridWorld-v0)
from equirl.agents import symmetrize_agent

torch.set_num_threads(1)  # small networks train several times faster on one thread
settings = {"learning_rate": 5e-4, "gamma": 0.95, "train_freq": 1, "target_update_interval": 250}
environment = gym.make("equirl/GridWorld-v0", goal="north-west")
trained = DQN("MlpPolicy", environment, exploration_fraction=0.5, seed=0, **settings)
trained.learn(int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "10000")))

everywhere = Monitor(gym.make("equirl/GridWorld-v0"))
methods = ("equitune", "lambda_equitune")
agents = {"as it is": trained, **{method: symmetrize_agent(trained, "grid-d4", method) for method in methods}}
for name, agent in agents.items():
    mean_return, _ = evaluate_policy(agent, everywhere, n_eval_episodes=50)
    print(f"{name}: mean return {mean_return:.2f}")

agents["lambda_equitune"].save("equivariant.zip")  # DQN.load opens it like any other agent
