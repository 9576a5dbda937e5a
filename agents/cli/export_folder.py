"""``equirl export AGENT -o FOLDER``: an agent as a folder of data with a model card, perhaps pushed to a hub."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from equirl.agents.agent_card import AgentCard, evaluate_for_card
from equirl.agents.agent_folder import SETTINGS, STATE, WEIGHTS, save_agent_folder
from equirl.agents.cli.agent_options import environments_like_the_run
from equirl.agents.cli.arguments import add_environment_settings, add_packages, check_output, existing_file, whole
from equirl.agents.cli.runs import Run, run_of
from equirl.agents.cli.zoo import named_environment
from equirl.agents.minigrid_views import is_minigrid, view_settings
from equirl.agents.open_folder import is_agent_folder, read_card, stored_normalization
from equirl.agents.orbit_network import orbit_networks
from equirl.optional import needed

__all__ = ["add_folder_options", "check_folder_options", "write_folder"]

_HUB = "'equirl[export]'"


def add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that folders alone take to a command's parser."""
    folder = parser.add_argument_group("for a folder", "its model card tells the environment and the returns")
    folder.add_argument("--env", metavar="ENV", help="environment id; default: that of the run")
    folder.add_argument("--episodes", type=whole(0), default=0, metavar="N", help="measure returns in N episodes (0)")
    folder.add_argument(
        "--vecnormalize", type=existing_file("VecNormalize"), metavar="FILE.pkl", help="default: that of the run"
    )
    folder.add_argument("--seed", type=whole(0), default=0, help="seed of the episodes (0)")
    folder.add_argument("--push", metavar="USER/NAME", help="push the folder to this repository of Hugging Face")
    add_environment_settings(parser)
    add_packages(parser)


def check_folder_options(options: argparse.Namespace) -> None:
    """Raise where options for folders are given for a file, or the folder cannot be written.

    Raises:
        ModuleNotFoundError: ``--push`` without ``huggingface_hub``.
        ValueError: An option that the output does not take, or something else in the place of the folder.
    """
    if options.output.suffix:
        for name in ("env", "episodes", "vecnormalize", "env_kwargs", "view_kwargs", "push"):
            if getattr(options, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} is for a folder; {options.output} is a file. Name the output without "
                    "an ending"
                )
        return
    check_output(options.output, folder=True)
    for name in ("episodes", "vecnormalize", "env_kwargs", "view_kwargs"):
        if getattr(options, name) and options.env is None and not _known_environment(options.model):
            raise ValueError(f"--{name.replace('_', '-')} needs the environment: --env ENV")
    if options.push:
        needed("huggingface_hub", _HUB)
        if options.push.count("/") != 1 or not all(options.push.split("/")):
            raise ValueError(f"--push takes USER/NAME, a repository of the hub; got {options.push!r}")


def write_folder(model: BaseAlgorithm, output: Path, options: argparse.Namespace) -> None:
    """Write the folder of an agent, and push it to the Hugging Face hub if --push is given.

    Args:
        model: The agent.
        output: The folder.
        options: The parsed options.

    Raises:
        TypeError: As ``save_agent_folder``.
        ValueError: As ``save_agent_folder``; an environment that the agent does not know; or a failed push.
    """
    run = run_of(options.model)
    card = _card(options, run)
    environments: VecEnv | None = None
    if options.env is not None or (card.environment and (options.episodes or _was_normalized(options, run))):
        options.env = named_environment(options.env or card.environment, [*options.gym_packages, *_packages(run)])
        card = replace(card, environment=options.env)
        options.symmetry = _symmetry(model, options.env)
        options.view_kwargs = options.view_kwargs or dict(card.view_kwargs) or None
        environments = environments_like_the_run(options, run, card.environment_kwargs, n_envs=1)
        card = replace(card, environment_kwargs=options.env_kwargs or {}, view_kwargs=options.view_kwargs or {})
    if options.episodes and environments is not None:
        print(f"Measuring {options.episodes} episodes in {options.env} ...", flush=True)
        card = replace(card, evaluation=evaluate_for_card(model, environments, options.episodes, seed=options.seed))
    of_folder = stored_normalization(options.model)
    normalization = of_folder if environments is None else unwrap_vec_normalize(environments)
    save_agent_folder(model, output, card=card, normalization=normalization)
    if options.push:
        _push(output, options.push)


def _card(options: argparse.Namespace, run: Run | None) -> AgentCard:
    if run is not None:
        known: Mapping[str, Any] = run.hyperparameters
        hyperparameters = {str(name): str(value) for name, value in known.items()}
        return AgentCard(
            run.environment,
            run.environment_settings,
            run.command,
            hyperparameters,
            view_kwargs=view_settings(run.wrappers) or {},
        )
    return read_card(options.model) if is_agent_folder(options.model) else AgentCard()


def _known_environment(model: Path) -> bool:
    run = run_of(model)
    return bool(run.environment if run is not None else is_agent_folder(model) and read_card(model).environment)


def _packages(run: Run | None) -> list[str]:
    return [] if run is None else run.packages


def _was_normalized(options: argparse.Namespace, run: Run | None) -> bool:
    return options.vecnormalize is not None or (run is not None and bool(run.hyperparameters.get("normalize")))


def _symmetry(model: BaseAlgorithm, environment: str) -> Any:
    """Return an agent's symmetry itself, whose name may be unknown; in MiniGrid the name, which tells the view."""
    try:
        symmetry = orbit_networks(model)[0].symmetry
    except TypeError:
        return ""
    return symmetry.name if is_minigrid(environment) else symmetry


def _push(folder: Path, repository: str) -> None:
    hub: Any = needed("huggingface_hub", _HUB)
    try:
        api = hub.HfApi()
        url = api.create_repo(repository, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message="Add an agent of equirl",
            allow_patterns=[SETTINGS, WEIGHTS, STATE, "README.md", "symmetry*.toml"],
        )
    except Exception as error:  # the hub's own errors, and those of the network
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{folder} is written, but not pushed to {repository} ({type(error).__name__}: {reason}); log in with `hf "
            f"auth login` and try again, or upload it: hf upload {repository} {folder}"
        ) from error
    print(f"Pushed: {url}")
