"""How symmetric a trained agent is, and what symmetrization does to its returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import bootstrap
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from equirl.agents.files import written_whole
from equirl.agents.scores import action_scores
from equirl.agents.spaces import symmetry_on
from equirl.agents.symmetrization import agent_symmetry, symmetrize_agent
from equirl.agents.visited_states import rollout_observations
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry
from equirl.testing import equivariance_error

__all__ = ["AUDIT_COLUMNS", "AuditRow", "audit_agent", "disagreement_share", "draw_audit"]

AUDIT_COLUMNS = (
    "agent",
    "mean_return",
    "low",
    "high",
    "success_rate",
    "equivariance_error",
    "disagreement_share",
    "n_episodes",
)

_VARIANTS: dict[str, str | None] = {
    "plain": None,
    "equitune": "equitune",
    "equizero": "equizero",
    "lambda_equitune": "lambda_equitune",
    "canonical": "canonical",
}


@dataclass(frozen=True)
class AuditRow:
    """One agent of an audit.

    Attributes:
        agent: ``"plain"`` or the method.
        mean_return: Over the episodes.
        low: Lower end of its 95 % bootstrap interval.
        high: Upper end.
        success_rate: In [0, 1]; ``None`` where the environment does not report ``is_success``.
        equivariance_error: ``max_g ||f(gs) - g f(s)|| / ||f(s)||`` of Q-values or logits on visited states.
        disagreement_share: Share of visited states where the greedy action changes with the orientation.
        n_episodes: Number of episodes.
    """

    agent: str
    mean_return: float
    low: float
    high: float
    success_rate: float | None
    equivariance_error: float
    disagreement_share: float
    n_episodes: int

    def cells(self) -> tuple[Any, ...]:
        """Return the values of ``AUDIT_COLUMNS``."""
        success = "" if self.success_rate is None else round(self.success_rate, 4)
        numbers = (round(value, 4) for value in (self.mean_return, self.low, self.high))
        return (
            self.agent,
            *numbers,
            success,
            self.equivariance_error,
            round(self.disagreement_share, 4),
            self.n_episodes,
        )


def audit_agent(
    model: BaseAlgorithm,
    environments: VecEnv,
    symmetry: str | MDPSymmetry,
    *,
    n_episodes: int = 100,
    n_states: int = 5_000,
    seed: int = 0,
    deterministic: bool = True,
    method_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> list[AuditRow]:
    """Evaluate a plain agent and its symmetrizations on the same episodes' seeds.

    Args:
        model: A plain agent.
        environments: Where to evaluate it; also where it visits the states that λ is fitted on.
        symmetry: A registered name or an ``MDPSymmetry``.
        n_episodes: Episodes of each.
        n_states: Visited states, from the agent's own rollouts.
        seed: Seed of rollouts and episodes.
        deterministic: Whether the agents act greedily.
        method_kwargs: Settings by method.
        progress: Called with the name of each agent before its episodes.

    Returns:
        Plain, equitune, equizero, λ-equitune and canonical.

    Raises:
        TypeError: As ``symmetrize_agent``.
        ValueError: As ``symmetrize_agent``.
    """
    resolved = symmetry_on(agent_symmetry(model, symmetry), model.device)
    visited = rollout_observations(model, environments, n_states, seed=seed)
    rows = []
    for name, method in _VARIANTS.items():
        if progress is not None:
            progress(name)
        settings = (method_kwargs or {}).get(name)
        agent = model if method is None else symmetrize_agent(model, resolved, method, settings, observations=visited)
        environments.seed(seed + 1)
        returns, successes = _episodes(agent, environments, n_episodes, deterministic)
        low, high = _interval(returns)
        rows.append(
            AuditRow(
                name,
                float(returns.mean()),
                low,
                high,
                float(np.mean(successes)) if successes else None,
                equivariance_error(action_scores(agent), resolved.observation, resolved.action, visited),
                disagreement_share(action_scores(agent), resolved, visited),
                len(returns),
            )
        )
    return rows


def disagreement_share(scores: Callable[[Tree], Tensor], symmetry: MDPSymmetry, observations: Tree) -> float:
    """Return the share of states ``s`` where for some ``g`` the greedy action at ``gs`` is not ``ga``.

    Where scores are equal to round-off there are several greedy actions; then the sets are compared.

    Args:
        scores: Observations ``[B, *observation]`` to scores ``[B, A]``.
        symmetry: The symmetry.
        observations: States, ``[B, *observation]``.
    """
    here = _greedy(scores(observations))
    disagree = torch.zeros(len(here), dtype=torch.bool, device=here.device)
    for g in range(symmetry.group.order):
        there = _greedy(scores(symmetry.observation.apply(g, observations)))
        expected = cast(Tensor, symmetry.action.apply(g, here.float())) > 0
        disagree |= (there != expected).any(dim=1)
    return float(disagree.float().mean())


def _greedy(scores: Tensor) -> Tensor:
    """Return which actions are greedy, ``[B, A]``: more than one where scores are equal to round-off."""
    slack = 1e-4 * scores.abs().amax(dim=1, keepdim=True)
    return scores >= scores.amax(dim=1, keepdim=True) - slack


def draw_audit(rows: list[AuditRow], title: str, picture: Path) -> None:
    """Write a PNG: returns with their intervals, and how often greedy actions disagree."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [row.agent for row in rows]
    means = np.array([row.mean_return for row in rows])
    errors = np.array([[row.mean_return - row.low, row.high - row.mean_return] for row in rows]).T
    left.bar(names, means, yerr=errors, capsize=4, alpha=0.75)
    left.set_ylabel("return")
    left.set_title(f"{title}: mean of {rows[0].n_episodes} episodes, 95 % interval", fontsize=9)
    right.bar(names, [row.disagreement_share for row in rows], alpha=0.75, color="tab:orange")
    right.set_ylim(0, 1)
    right.set_ylabel("share of visited states")
    right.set_title("greedy action depends on the orientation", fontsize=9)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def _episodes(
    model: BaseAlgorithm, environments: VecEnv, n_episodes: int, deterministic: bool
) -> tuple[NDArray[np.float64], list[bool]]:
    successes: list[bool] = []

    def note(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["done"] and "is_success" in local["info"]:
            successes.append(bool(local["info"]["is_success"]))

    returns, _ = evaluate_policy(
        model,
        environments,
        n_eval_episodes=n_episodes,
        deterministic=deterministic,
        callback=note,
        return_episode_rewards=True,
    )
    return np.asarray(returns, dtype=float), successes


def _interval(returns: NDArray[np.float64]) -> tuple[float, float]:
    if len(returns) < 2 or np.ptp(returns) == 0:
        return float(returns.mean()), float(returns.mean())
    interval = bootstrap((returns,), np.mean, confidence_level=0.95, rng=np.random.default_rng(0)).confidence_interval
    return float(interval.low), float(interval.high)
