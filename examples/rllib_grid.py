"""Train on the 7x7 grid with RLlib on a Ray cluster: several environment runners, two learners; go on after a stop.

``RAY_ADDRESS=HOST:6379 python rllib_grid.py FOLDER`` uses that cluster, without it Ray starts on this machine. The
newest checkpoint in the folder is resumed. At the end the network becomes an agent of Stable-Baselines3.
"""

import os
import sys
from pathlib import Path

import gymnasium as gym
import ray
import torch
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module import RLModuleSpec

from equirl import equivariance_error
from equirl.agents.from_rllib import agent_from_rllib
from equirl.envs.gridworld_states import GridWorldStates
from equirl.integrations.rllib import EquivariantDQNModule

STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "20000"))
FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "rllib_grid").resolve()
GRID = "equirl.envs:equirl/GridWorld-v0"  # the workers import equirl.envs, which registers grid and symmetry

network = {"fcnet_hiddens": [64, 64], "fcnet_activation": "relu", "head_fcnet_hiddens": []}
symmetric = {"symmetry": "equirl.envs:grid-d4", "method": "lambda_equitune"}
config = (
    DQNConfig()
    .environment(GRID)
    .env_runners(num_env_runners=2, num_envs_per_env_runner=16, rollout_fragment_length=4)
    .learners(num_learners=2, num_gpus_per_learner=0)
    .rl_module(rl_module_spec=RLModuleSpec(EquivariantDQNModule, model_config=network | symmetric))
    .training(
        **{"lr": 2e-3, "gamma": 0.95, "dueling": False, "train_batch_size_per_learner": 64, "training_intensity": 4},
        num_steps_sampled_before_learning_starts=256,
        target_network_update_freq=256,
        epsilon=[(0, 1.0), (STEPS // 2, 0.05)],
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 20_000},
        store_buffer_in_checkpoints=True,
    )
    .reporting(min_sample_timesteps_per_iteration=1000)
    .debugging(seed=0)
)

local = {"num_cpus": 5, "include_dashboard": False, "object_store_memory": 200_000_000}
ray.init(**({} if "RAY_ADDRESS" in os.environ else local), log_to_driver=False)
algorithm = config.build_algo()
checkpoints = sorted(FOLDER.glob("steps-*"))
if checkpoints:
    algorithm.restore_from_path(checkpoints[-1])
    print(f"resumed from {checkpoints[-1].name}", flush=True)
steps = 0
while steps < STEPS:
    result = algorithm.train()
    steps = int(result["num_env_steps_sampled_lifetime"])
    algorithm.save_to_path(FOLDER / "unfinished")
    (FOLDER / "unfinished").rename(FOLDER / f"steps-{steps:07d}")  # whole or not at all
    print(f"checkpoint at {steps} steps, return {result['env_runners'].get('episode_return_mean'):.2f}", flush=True)

agent = agent_from_rllib(algorithm.get_module(), gym.make(GRID))
algorithm.stop()
agent.save(FOLDER / "agent.zip")  # DQN.load opens it like any other agent
states = GridWorldStates(7)
print(f"success rate: {states.success_rate(agent):.3f}")
observations = torch.as_tensor(states.observations[:64]).float()
q_net = agent.policy.q_net
print(f"equivariance error: {equivariance_error(q_net, q_net.input_rep, q_net.output_rep, observations):.1e}")
