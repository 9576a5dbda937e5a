"""Evaluation episodes of an agent, with the successes that the environment reports."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked_policy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv

from equirl.agents.masks import takes_masks

__all__ = ["Episodes", "evaluate_episodes"]


class Episodes(NamedTuple):
    """Evaluation episodes.

    Attributes:
        returns: Undiscounted return of each episode, ``[N]``.
        lengths: Steps of each episode, ``[N]``.
        successes: Success of each episode that reports it under ``is_success``, ``[N]`` or fewer.
    """

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    successes: NDArray[np.bool_]

    @property
    def all_report(self) -> bool:
        """Whether every episode reports its success."""
        return len(self.successes) == len(self.returns)


def evaluate_episodes(model: BaseAlgorithm, environments: VecEnv, n_episodes: int, deterministic: bool) -> Episodes:
    """Return evaluation episodes, by SB3's ``evaluate_policy``, or sb3-contrib's where actions are masked.

    Args:
        model: The agent.
        environments: Its environments.
        n_episodes: Number of episodes.
        deterministic: Whether the agent acts greedily.
    """
    successes: list[bool] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> None:
        # With a Monitor inside a wrapper that resets early, not every end is one of an episode.
        ended = local["done"] and ("episode" in local["info"] or not local["is_monitor_wrapped"])
        if ended and local["info"].get("is_success") is not None:
            successes.append(bool(local["info"]["is_success"]))

    evaluate: Any = evaluate_masked_policy if takes_masks(model, environments) else evaluate_policy
    returns, lengths = evaluate(
        model,
        environments,
        n_eval_episodes=n_episodes,
        deterministic=deterministic,
        callback=note,
        return_episode_rewards=True,
    )
    return Episodes(np.asarray(returns, dtype=float), np.asarray(lengths, dtype=int), np.asarray(successes, dtype=bool))
