"""Train on CartPole with RLlib's PPO: two environment runners and a learner, all in processes of a Ray cluster."""

import os

import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module import RLModuleSpec

from equirl import equivariance_error
from equirl.integrations.rllib import EquivariantPPOModule

STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "60000"))
network = {"symmetry": "equirl.envs:cartpole-z2", "method": "equitune", "fcnet_hiddens": [64, 64]}
config = (
    PPOConfig()
    .environment("CartPole-v1")
    .env_runners(num_env_runners=2, num_envs_per_env_runner=4)
    .learners(num_learners=1, num_gpus_per_learner=0)
    .rl_module(rl_module_spec=RLModuleSpec(EquivariantPPOModule, model_config=network))
    .training(lr=3e-4, train_batch_size_per_learner=2048, minibatch_size=128, num_epochs=8)
    .debugging(seed=0)
)
local = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 200_000_000}
ray.init(**({} if "RAY_ADDRESS" in os.environ else local), log_to_driver=False)
algorithm, steps = config.build_algo(), 0
while steps < STEPS:
    result = algorithm.train()
    steps = int(result["num_env_steps_sampled_lifetime"])
    print(f"{steps} steps, mean return {result['env_runners']['episode_return_mean']:.0f}", flush=True)
module = algorithm.get_module()
algorithm.stop()
states = torch.randn(64, 4)
logits = lambda x: module.forward_inference({"obs": x})["action_dist_inputs"]  # noqa: E731
print(f"equivariance error: {equivariance_error(logits, module.input_rep, module.symmetry.action, states):.1e}")
