"""What ``equirl symmetrize`` and ``equirl audit`` share: an agent's file, its environment, a symmetry."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from rl_zoo3.utils import get_wrapper_class
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize

from equirl.agents.cli.arguments import (
    CommandParser,
    add_environment_settings,
    add_packages,
    device,
    existing_agent,
    existing_file,
    whole,
)
from equirl.agents.cli.runs import Run, run_of
from equirl.agents.cli.zoo import folder_name, named_environment, split_id
from equirl.agents.loading import ALGORITHMS, load_agent
from equirl.agents.minigrid_views import is_minigrid, view_settings
from equirl.agents.normalization import check_normalization, symmetrize_statistics
from equirl.agents.open_folder import has_normalization, load_normalization
from equirl.agents.saved_statistics import load_replay_buffer, load_vecnormalize
from equirl.agents.spaces import resolve_symmetry
from equirl.envs import make_environment
from equirl.envs.catalog import declared_view_settings
from equirl.symmetry import check_symmetry_name

__all__ = ["add_agent_options", "environments_like_the_run", "load", "make_environments", "parse_agent_options"]

_LARGEST_SEED = 2**32 - 1000  # NumPy's is 2**32 - 1, and environments are seeded by seed + i


def add_agent_options(parser: CommandParser) -> None:
    """Add the options to a command's parser."""
    parser.add_argument(
        "model", metavar="MODEL.zip", type=existing_agent, help="as SB3's save() wrote it; or the folder of an agent"
    )
    parser.add_argument("--env", required=True, metavar="ENV", help="environment id, or MODULE:ID for one of your own")
    parser.add_argument("--symmetry", required=True, metavar="NAME", help="`equirl envs` lists them; or FILE.toml")
    parser.add_argument("--algo", choices=sorted(ALGORITHMS), help="default: told from the file")
    add_environment_settings(parser)
    add_packages(parser)
    parser.add_argument("--frame-stack", type=whole(1), metavar="N", help="frames that the agent sees at a time")
    parser.add_argument(
        "--vecnormalize", type=existing_file("VecNormalize"), metavar="FILE.pkl", help="saved VecNormalize of the agent"
    )
    parser.add_argument(
        "--symmetrize-statistics",
        action="store_true",
        help="average the statistics of --vecnormalize over the group; the agent sees slightly other observations",
    )
    parser.add_argument(
        "--replay-buffer",
        type=existing_file("a replay buffer"),
        metavar="FILE.pkl",
        help="saved replay buffer of the agent",
    )
    parser.add_argument("--seed", type=whole(0, most=_LARGEST_SEED), default=0)
    parser.add_argument("--device", type=device, default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--num-threads", type=whole(1), default=1, help="torch threads (1)")


def parse_agent_options(parser: CommandParser, arguments: list[str]) -> argparse.Namespace:
    """Return the parsed options, with the user's modules imported and the names checked.

    Settings that are not given are those of the run, where the agent lies in the folder of one; a view's settings are
    otherwise the declared ones.

    Raises:
        ValueError: A module that is not there, an environment or a symmetry that is not registered.
    """
    options = parser.parse_args(arguments)
    run = run_of(options.model)
    of_run = run.packages if run is not None and run.environment == split_id(options.env)[1] else []
    options.env = named_environment(options.env, [*options.gym_packages, *of_run])
    check_symmetry_name(options.symmetry)
    options.wrappers = []
    if run is not None and run.environment == options.env:
        _like_the_run(options, run)
    if options.view_kwargs is None and is_minigrid(options.env):
        options.view_kwargs = declared_view_settings(options.env, options.symmetry)
    return options


def _like_the_run(options: argparse.Namespace, run: Run) -> None:
    """Take over from the run what the options leave open about the agent's environment, and say so."""
    statistics = run.folder / folder_name(run.environment) / "vecnormalize.pkl"
    normalized = bool(run.hyperparameters.get("normalize"))
    found: dict[str, Any] = {
        "env_kwargs": run.environment_settings,
        "view_kwargs": view_settings(run.wrappers),
        "frame_stack": run.hyperparameters.get("frame_stack"),
        "vecnormalize": statistics if normalized else None,
    }
    for name, value in found.items():
        if getattr(options, name) is None and value:
            setattr(options, name, value)
            print(f"As in the run: --{name.replace('_', '-')} {value}")
    if options.vecnormalize == statistics and not statistics.is_file():
        raise ValueError(
            f"{options.model} was trained with `normalize`, but its statistics are not at {statistics}; name them: "
            "--vecnormalize FILE.pkl"
        )
    options.wrappers = [
        {name: settings} for name, settings in run.wrappers if view_settings([(name, settings)]) is None
    ]
    if options.wrappers:
        print(f"As in the run: env_wrapper {options.wrappers}")


def make_environments(options: argparse.Namespace, n_envs: int) -> VecEnv:
    """Return the environment that the options describe, vectorized as the agent saw it.

    Raises:
        FileNotFoundError: There is no such VecNormalize file.
        ValueError: No such environment, settings it does not take, or statistics of something else.
    """

    wrap = get_wrapper_class({"env_wrapper": options.wrappers}) if options.wrappers else None

    def make() -> gym.Env[Any, Any]:
        environment = make_environment(
            options.env, options.symmetry, view_kwargs=options.view_kwargs, **(options.env_kwargs or {})
        )
        return environment if wrap is None else wrap(environment)

    environments: VecEnv = make_vec_env(make, n_envs, seed=options.seed)
    if options.vecnormalize is None and has_normalization(options.model):
        options.vecnormalize = options.model
        environments = normalized = load_normalization(options.model, environments)
    elif options.vecnormalize is not None:
        environments = normalized = load_vecnormalize(options.vecnormalize, environments)
    if options.vecnormalize is not None:
        normalized.training = normalized.norm_reward = False
        if normalized.norm_obs:
            _check_statistics(options, normalized)
    if options.frame_stack is not None:
        environments = VecFrameStack(environments, options.frame_stack)
    return environments


def environments_like_the_run(
    options: argparse.Namespace, run: Run | None, settings: Mapping[str, Any], n_envs: int
) -> VecEnv:
    """Return the environments of an agent by few options, the rest as in its run.

    Args:
        options: The parsed options: ``model``, ``env``, ``env_kwargs``, ``view_kwargs``, ``vecnormalize``, ``seed``
            and ``symmetry``; completed in place.
        run: The run of the agent, if there is one.
        settings: Settings of the environment where the options give none.
        n_envs: How many.

    Raises:
        FileNotFoundError: There is no such VecNormalize file.
        ValueError: No such environment, settings it does not take, or statistics of something else.
    """
    options.env_kwargs = options.env_kwargs or dict(settings) or None
    options.wrappers, options.frame_stack, options.symmetrize_statistics = [], None, False
    if run is not None and run.environment == options.env:
        _like_the_run(options, run)
    if options.view_kwargs is None and is_minigrid(options.env):
        options.view_kwargs = declared_view_settings(options.env, options.symmetry)
    return make_environments(options, n_envs)


def _check_statistics(options: argparse.Namespace, normalized: VecNormalize) -> None:
    if not options.symmetry:  # a plain agent's
        return
    if options.symmetrize_statistics:
        symmetrize_statistics(normalized, options.symmetry)
        return
    symmetry = resolve_symmetry(options.symmetry, normalized.observation_space, normalized.action_space)
    try:
        check_normalization(normalized, symmetry)
    except ValueError as error:
        raise ValueError(
            f"the statistics in {options.vecnormalize} are not symmetric under {symmetry.name}, and normalising by "
            "them would undo the symmetry: --symmetrize-statistics averages them over the group (the agent then sees "
            "slightly other observations)"
        ) from error


def load(options: argparse.Namespace, environments: VecEnv) -> BaseAlgorithm:
    """Return the agent that the options name, with its replay buffer if one is named.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file holds no agent, the agent does not fit the environment, or it takes no replay buffer.
    """
    torch.set_num_threads(options.num_threads)
    model = load_agent(Path(options.model), environments, options.algo, options.device)
    if options.replay_buffer is not None:
        if not isinstance(model, OffPolicyAlgorithm):
            raise ValueError(f"{type(model).__name__} has no replay buffer; leave --replay-buffer out")
        load_replay_buffer(model, options.replay_buffer)
    return model
