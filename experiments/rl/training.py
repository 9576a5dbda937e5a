"""Agents of the studies: made with the hyperparameters of our files, and evaluated as they learn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from rl_zoo3.utils import get_wrapper_class
from stable_baselines3.common.base_class import BaseAlgorithm

import equirl.agents
from equirl.agents import SymmetryReplayBuffer, SymmetryRolloutBuffer
from equirl.agents.loading import ALGORITHMS
from equirl.agents.policies import POLICY_CLASSES
from equirl.experiments.tables import Rows
from equirl.experiments.training import EvaluateAndStop

__all__ = ["learning_rows", "make_agent", "planned_timesteps", "settings_for", "view_of"]

_ZOO_ONLY = ("policy", "n_timesteps", "monitor_kwargs", "callback", "env_wrapper", "n_envs")


def settings_for(algorithm: str, environment_id: str, total_timesteps: int) -> dict[str, Any]:
    """Return the arguments of an algorithm's class in our file, and ``n_envs``, without what rl_zoo3 alone understands.

    The exploration lasts as many steps as in our file, however long the run is.
    """
    entry = _entry(algorithm, environment_id)
    settings = {key: value for key, value in entry.items() if key not in _ZOO_ONLY}
    if "exploration_fraction" in settings:
        settings["exploration_fraction"] *= entry["n_timesteps"] / total_timesteps
    return settings | {"n_envs": entry.get("n_envs", 1)}


def planned_timesteps(algorithm: str, environment_id: str) -> int:
    """Return how many environment steps our file plans for an environment."""
    return int(_entry(algorithm, environment_id)["n_timesteps"])


def view_of(algorithm: str, environment_id: str) -> Callable[[Any], Any] | None:
    """Return the wrapper that our file puts around an environment, if any."""
    wrapper: Callable[[Any], Any] | None = get_wrapper_class(_entry(algorithm, environment_id))
    return wrapper


def make_agent(
    algorithm: str,
    environment: Any,
    settings: Mapping[str, Any],
    *,
    method: str = "plain",
    symmetry: str | None = None,
    method_kwargs: Mapping[str, Any] | None = None,
    **more: Any,
) -> Any:
    """Return an agent that has learned nothing yet.

    Args:
        algorithm: By rl_zoo3's name.
        environment: Where it learns; one environment or a batch.
        settings: Those of ``settings_for``, perhaps changed.
        method: ``"plain"``, ``"augmentation"`` or a method of symmetrization.
        symmetry: Name of the symmetry, where the agent is not plain.
        method_kwargs: The method's own settings.
        **more: Further arguments of the algorithm's class.
    """
    arguments = {key: value for key, value in settings.items() if key != "n_envs"}
    policy: Any = "MlpPolicy"
    if method == "augmentation":
        kind, buffer = ("replay", SymmetryReplayBuffer) if algorithm == "dqn" else ("rollout", SymmetryRolloutBuffer)
        arguments |= {f"{kind}_buffer_class": buffer, f"{kind}_buffer_kwargs": {"symmetry": symmetry}}
    elif method != "plain":
        policy = POLICY_CLASSES[algorithm]
        own = {"symmetry": symmetry, "method": method, "method_kwargs": dict(method_kwargs or {})}
        arguments["policy_kwargs"] = arguments["policy_kwargs"] | own
    agent_class: Any = ALGORITHMS[algorithm]
    return agent_class(policy, environment, **arguments, **more)


def learning_rows(
    name: str, about: tuple[Any, ...], agent: BaseAlgorithm, total_timesteps: int, callback: EvaluateAndStop
) -> Rows:
    """Train an agent and return a row for each evaluation: ``about``, environment steps, success rate, seconds."""
    agent.learn(total_timesteps, callback=callback)
    rows = [(*about, e.timesteps, round(e.scores[0], 4), e.seconds) for e in callback.evaluations]
    *_, steps, success, seconds = rows[-1]
    print(f"{name}: success {success} after {steps} steps, {seconds} s", flush=True)
    return rows


def _entry(algorithm: str, environment_id: str) -> dict[str, Any]:
    path = Path(equirl.agents.__file__).parent / "hyperparams" / f"{algorithm}.yml"
    return dict(yaml.safe_load(path.read_text())[environment_id])
