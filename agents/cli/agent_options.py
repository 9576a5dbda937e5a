"""What ``equirl symmetrize`` and ``equirl audit`` share: an agent's file, its environment, a symmetry."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from rl_zoo3.utils import StoreDict
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from equirl.agents.loading import ALGORITHMS, load_agent
from equirl.envs import make_environment

__all__ = ["add_agent_options", "load", "make_environments"]


def add_agent_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command's parser."""
    parser.add_argument("model", metavar="MODEL.zip", type=Path, help="the agent, as SB3's save() wrote it")
    parser.add_argument("--env", required=True, metavar="ENV", help="environment id")
    parser.add_argument("--symmetry", required=True, metavar="NAME", help="`equirl envs` lists them")
    parser.add_argument("--algo", choices=sorted(ALGORITHMS), help="default: told from the file")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, metavar="KEY:VALUE", help="settings of ENV")
    parser.add_argument(
        "--view-kwargs", nargs="+", action=StoreDict, metavar="KEY:VALUE", help="planes, mission, n_actions (MiniGrid)"
    )
    parser.add_argument("--frame-stack", type=int, metavar="N", help="frames that the agent sees at a time")
    parser.add_argument("--vecnormalize", type=Path, metavar="FILE.pkl", help="saved VecNormalize of the agent")
    parser.add_argument("--replay-buffer", type=Path, metavar="FILE.pkl", help="saved replay buffer of the agent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--num-threads", type=int, default=1, help="torch threads (1)")


def make_environments(options: argparse.Namespace, n_envs: int) -> VecEnv:
    """Return the environment that the options describe, vectorized as the agent saw it.

    Raises:
        FileNotFoundError: There is no such VecNormalize file.
        ValueError: No such environment, or settings it does not take.
    """

    def make() -> gym.Env[Any, Any]:
        return make_environment(
            options.env, options.symmetry, view_kwargs=options.view_kwargs, **(options.env_kwargs or {})
        )

    environments: VecEnv = make_vec_env(make, n_envs, seed=options.seed)
    if options.vecnormalize is not None:
        if not options.vecnormalize.exists():
            raise FileNotFoundError(f"there is no VecNormalize at {options.vecnormalize}")
        environments = VecNormalize.load(str(options.vecnormalize), environments)
        environments.training = environments.norm_reward = False
    if options.frame_stack is not None:
        environments = VecFrameStack(environments, options.frame_stack)
    return environments


def load(options: argparse.Namespace, environments: VecEnv) -> BaseAlgorithm:
    """Return the agent that the options name, with its replay buffer if one is named.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no agent, the agent does not fit the environment, or it takes no replay buffer.
    """
    torch.set_num_threads(options.num_threads)
    model = load_agent(options.model, environments, options.algo, options.device)
    if options.replay_buffer is not None:
        if not isinstance(model, OffPolicyAlgorithm):
            raise ValueError(f"{type(model).__name__} has no replay buffer; leave --replay-buffer out")
        if not options.replay_buffer.exists():
            raise FileNotFoundError(f"there is no replay buffer at {options.replay_buffer}")
        model.load_replay_buffer(options.replay_buffer)
    return model
