"""Learning curves of the agents of a comparison: evaluated at equal distances as they learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import sync_envs_normalization

from equirl.agents.comparison import Comparison
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.evaluation import evaluate_episodes
from equirl.agents.gate_training import gate_callbacks
from equirl.agents.loading import ALGORITHMS

__all__ = ["CurvePoint", "EvaluationPlan", "check_agents", "learning_curve", "level"]

_SUCCESS = 0.95
"""Success rate that counts as learned."""


@dataclass(frozen=True)
class EvaluationPlan:
    """How long agents learn, and how they are evaluated.

    Attributes:
        steps: Environment steps of a run.
        every: Environment steps between two evaluations; rounded up to whole steps of all environments.
        episodes: Episodes of each evaluation. Agents act greedily, but for PPO, A2C, TRPO and RecurrentPPO with actions
            that are no numbers, which sample.
        threshold: Success rate, or mean return where there is none, that counts as learned; by default that of
            ``level``.
        stop_after: A run ends after so many evaluations in a row at the threshold or above; 0: never.
    """

    steps: int
    every: int
    episodes: int
    threshold: float | None = None
    stop_after: int = 3

    def distance(self, n_envs: int) -> int:
        """Return the environment steps between two evaluations of ``n_envs`` environments that step together."""
        return math.ceil(self.every / n_envs) * n_envs


class CurvePoint(NamedTuple):
    """One evaluation: steps and episodes so far, success rate (``None`` where not reported), mean return, seconds."""

    timesteps: int
    episodes: int
    success_rate: float | None
    mean_return: float
    seconds: float


def level(environment: str, has_success: bool, threshold: float | None) -> float | None:
    """Return what counts as learned: 0.95 of the episodes, or the return that the environment registers.

    Args:
        environment: Id of the environment.
        has_success: Whether episodes report their success.
        threshold: What the user gave instead.

    Returns:
        A success rate or a mean return; ``None`` if neither is known.
    """
    if threshold is not None:
        return threshold
    return _SUCCESS if has_success else gym.spec(environment).reward_threshold


def check_agents(comparison: Comparison, methods: Sequence[str], plan: EvaluationPlan, device: str = "auto") -> None:
    """Make each agent once, so that a mistake is met before hours of work.

    Raises:
        ValueError: An agent that cannot be made, or that begins to learn after its last step only.
    """
    for method in methods:
        try:
            agent: Any = comparison.agent(method, 0, device)
        except Exception as error:  # hyperparameters may make torch and SB3 raise anything
            text = " ".join(str(error).split())
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(f"the agent {method} cannot be made: {kind}{text}") from error
        agent.get_env().close()
        if isinstance(agent, OffPolicyAlgorithm):
            first, setting = agent.learning_starts + 1, f"learning_starts:{agent.learning_starts}"
        else:
            first, setting = agent.n_steps * agent.n_envs, f"n_steps:{agent.n_steps} n_envs:{agent.n_envs}"
        if (distance := plan.distance(agent.n_envs)) > plan.steps:
            raise ValueError(
                f"no evaluation within {plan.steps} steps: n_envs:{agent.n_envs} step together, so one comes every "
                f"{distance} steps; give more steps, or evaluate more often"
            )
        if first > plan.steps:
            raise ValueError(
                f"{comparison.algorithm} learns nothing within {plan.steps} steps, for it begins after {first} "
                f"({setting}); give more steps, or other hyperparameters"
            )


def learning_curve(
    comparison: Comparison, method: str, seed: int, plan: EvaluationPlan, device: str = "auto"
) -> list[CurvePoint]:
    """Train an agent and return its evaluations.

    Args:
        comparison: The world and the hyperparameters.
        method: One of ``COMPARED``.
        seed: Seed of the run; episodes of evaluation have others.
        plan: Steps and evaluations.
        device: Torch device.
    """
    evaluation = comparison.environments(min(10, plan.episodes), seed + 1000, evaluation=True)
    evaluation = comparison.normalized(evaluation, method, training=False)
    values = issubclass(ALGORITHMS[comparison.algorithm], OffPolicyAlgorithm)
    greedy = values or comparison.algorithm == "ppo_mask" or isinstance(evaluation.action_space, spaces.Box)
    measured: list[tuple[float | None, float]] = []

    def measure(agent: Any) -> tuple[float]:
        sync_envs_normalization(agent.get_env(), evaluation)
        episodes = evaluate_episodes(agent, evaluation, plan.episodes, greedy)
        success = float(episodes.successes.mean()) if episodes.all_report else None
        mean = float(episodes.returns.mean())
        measured.append((success, mean))
        learned = level(comparison.environment, success is not None, plan.threshold)
        return (-math.inf if learned is None else (mean if success is None else success) - learned,)

    # The score is the distance to what counts as learned, which depends on what the episodes report.
    agent: Any = comparison.agent(method, seed, device)
    callback = EvaluateAndStop(measure, plan.distance(agent.n_envs), 0.0, plan.stop_after or 10**9)
    agent.learn(plan.steps, callback=[*comparison.callbacks(method), *gate_callbacks(agent), callback])
    evaluation.close()
    agent.get_env().close()
    return [
        CurvePoint(e.timesteps, e.episodes, success, mean, e.seconds)
        for e, (success, mean) in zip(callback.evaluations, measured, strict=True)
        if e.timesteps <= plan.steps
    ]
