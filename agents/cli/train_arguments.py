"""The arguments of ``equirl train``, checked and completed before anything is made."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Any

import gymnasium as gym

from equirl.agents.cli.arguments import check_output, device, whole
from equirl.agents.cli.hyperparameters import (
    check_hyperparameters,
    hyperparameter_file,
    read_hyperparameters,
    zoo_file,
)
from equirl.agents.cli.runs import Run, run_of
from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, named_environment, split_id
from equirl.agents.policy_choice import PolicyChoice

__all__ = ["DEFAULTS", "TYPES", "complete"]

_LARGEST_SEED = 2**32 - 1000  # NumPy's is 2**32 - 1, and environments are seeded by seed + i

DEFAULTS: dict[str, Any] = {
    "algo": "dqn",
    "env": DEFAULT_ENVIRONMENT,
    "tensorboard_log": None,
    "n_timesteps": None,
    "eval_freq": None,
    "eval_episodes": None,
    "n_eval_envs": None,
    "verbose": None,
    "num_threads": 1,  # networks this small run slower on two
}
"""Our defaults of rl_zoo3's options; ``None`` is replaced by ``complete``."""

TYPES = {
    "n_timesteps": whole(1),
    "num_threads": whole(1, -1),
    "log_interval": whole(1, -1, -2),
    "eval_freq": whole(1, -1),
    "eval_episodes": whole(1),
    "n_eval_envs": whole(1),
    "save_freq": whole(1, -1),
    "seed": whole(0, -1, most=_LARGEST_SEED),
    "device": device,
    "n_trials": whole(1),
    "max_total_trials": whole(1),
    "n_jobs": whole(1, -1),
    "n_startup_trials": whole(0),
    "n_evaluations": whole(1),
    "trial_id": whole(0),
    "verbose": whole(0),
}
"""Types of rl_zoo3's options, narrower than theirs."""

_GRID_EVALUATION = (1_000, 100)
_EVALUATION = (25_000, 5)
_GRID_EVALUATION_ENVS = 50


def complete(arguments: argparse.Namespace, choice: PolicyChoice) -> None:
    """Check the parsed arguments and fill in what was left open, in place.

    Raises:
        ValueError: A mistake that can be known before training; the message names the option.
    """
    modules, environment = split_id(arguments.env)
    run = _continued(arguments, choice)
    of_run = run.packages if run is not None and run.environment == environment else []
    arguments.env = named_environment(arguments.env, [*arguments.gym_packages, *of_run])
    # The run keeps them, for the commands that come after.
    arguments.gym_packages = [*dict.fromkeys([*arguments.gym_packages, *modules, *of_run])]
    given = dict(arguments.hyperparams or {})
    if arguments.conf_file is None:
        ours = hyperparameter_file(arguments.algo, arguments.env, choice.symmetry)
        arguments.conf_file = str(ours or zoo_file(arguments.algo))
    settings = read_hyperparameters(arguments.conf_file, arguments.algo, arguments.env)
    check_hyperparameters(arguments.algo, settings, arguments.conf_file)
    check_hyperparameters(arguments.algo, given, "-params")
    if run is not None and run.environment == arguments.env:
        _like_the_run(arguments, run, given)
    if arguments.n_timesteps is None:
        # rl_zoo3's own way to say: those of the hyperparameters.
        arguments.n_timesteps = -1
    if arguments.tensorboard_log is None:
        arguments.tensorboard_log = f"{arguments.log_folder}/tensorboard"
    check_output(Path(arguments.log_folder), folder=True)
    check_output(Path(arguments.log_folder) / arguments.algo, folder=True)
    if arguments.tensorboard_log:
        check_output(Path(arguments.tensorboard_log), folder=True)
    if arguments.verbose is None:
        arguments.verbose = 0 if arguments.progress else 1  # SB3's tables every few episodes break the bar
    _complete_evaluation(arguments)
    _check_search(arguments)


def _continued(arguments: argparse.Namespace, choice: PolicyChoice) -> Run | None:
    """Return the run whose agent is trained further, if the agent's file lies in one."""
    agent = arguments.trained_agent
    if not agent:
        return None
    if choice != PolicyChoice():
        raise ValueError(f"{agent} keeps the policy it was trained with: leave out --symmetry and --method, or -i")
    if arguments.optimize_hyperparameters:
        raise ValueError(f"-optimize starts each trial afresh: leave out -optimize, or -i {agent}")
    if Path(agent).is_dir():
        raise ValueError(f"-i {agent} is a folder: give the agent's .zip")
    if not Path(agent).is_file():
        raise ValueError(f"-i {agent}: there is no such file; give the .zip that SB3's save() wrote")
    if not agent.endswith(".zip"):
        raise ValueError(f"-i {agent}: the name of an agent's file ends in .zip")
    return run_of(agent)


def _like_the_run(arguments: argparse.Namespace, run: Run, given: dict[str, Any]) -> None:
    """Use the environment's settings and wrappers of the agent's own run, unless others are given."""
    if arguments.env_kwargs is None and run.environment_settings:
        arguments.env_kwargs = run.environment_settings
        print(f"Settings of {arguments.env}, as in {run.folder}: {arguments.env_kwargs}")
    if "env_wrapper" not in given and run.wrappers:
        arguments.hyperparams = {**given, "env_wrapper": run.hyperparameters["env_wrapper"]}
        print(f"Wrappers of {arguments.env}, as in {run.folder}: {run.hyperparameters['env_wrapper']}")


def _complete_evaluation(arguments: argparse.Namespace) -> None:
    """Choose how often to evaluate, and on how many episodes.

    Equirl's grid, whose episodes are short, is evaluated closely. Elsewhere evaluation takes at most a tenth of the
    steps of training, as far as the environment tells how long its episodes are.
    """
    grid = arguments.env == DEFAULT_ENVIRONMENT
    freq, episodes = _GRID_EVALUATION if grid else _EVALUATION
    if arguments.eval_freq is None:
        longest = gym.spec(arguments.env).max_episode_steps
        if not grid and arguments.eval_episodes is None and longest is not None:
            freq = max(freq, 10 * episodes * longest)
        arguments.eval_freq = freq
    if arguments.eval_episodes is None:
        arguments.eval_episodes = episodes
    if arguments.n_eval_envs is None:
        arguments.n_eval_envs = min(_GRID_EVALUATION_ENVS, arguments.eval_episodes) if grid else 1


def _check_search(arguments: argparse.Namespace) -> None:
    if arguments.trial_id is not None and not (arguments.storage and arguments.study_name):
        raise ValueError(
            f"--trial-id {arguments.trial_id} is read from a study: name it with --storage and --study-name"
        )
    if arguments.sampler == "auto" and importlib.util.find_spec("optunahub") is None:
        raise ValueError("--sampler auto needs the package optunahub: pip install optunahub, or choose random or tpe")
    if arguments.track and importlib.util.find_spec("wandb") is None:
        raise ValueError("--track needs the package wandb: pip install wandb, or leave it out")
    if arguments.storage and (arguments.optimize_hyperparameters or arguments.trial_id is not None):
        _check_storage(arguments.storage, new=arguments.optimize_hyperparameters)


def _check_storage(storage: str, new: bool) -> None:
    if storage.endswith(".log"):
        check_output(Path(storage), folder=False)
        return
    import sqlalchemy

    try:
        url = sqlalchemy.engine.make_url(storage)
        if url.get_backend_name() == "sqlite" and url.database:
            file = Path(url.database)
            if not new and not file.is_file():
                raise ValueError(f"--storage {storage}: there is no file {file}")
            if not file.parent.is_dir():
                raise ValueError(f"--storage {storage}: there is no folder {file.parent}")
            check_output(file, folder=False)
        sqlalchemy.create_engine(url).connect().close()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())
        raise ValueError(
            f"--storage {storage} is no database that can be used ({reason}); give sqlite:///FILE.db, or a file that "
            "ends in .log"
        ) from error
