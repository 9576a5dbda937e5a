"""How symmetric a trained agent is, and what symmetrization does to its returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from equirl.agents.disagreement import disagreement_share
from equirl.agents.evaluation import evaluate_episodes
from equirl.agents.intervals import rate_interval, return_interval
from equirl.agents.measuring import measurement
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.scores import before_normalization, history_scores
from equirl.agents.spaces import symmetry_on
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.symmetrization import agent_symmetry, symmetrize_agent
from equirl.agents.visited_states import rollout_histories
from equirl.arguments import whole_number
from equirl.files import written_whole
from equirl.methods import make_aggregator
from equirl.names import unknown_name_message
from equirl.symmetry import MDPSymmetry
from equirl.testing import equivariance_error

__all__ = ["AUDIT_COLUMNS", "AuditRow", "audit_agent", "draw_audit"]

AUDIT_COLUMNS = (
    "agent",
    "mean_return",
    "low",
    "high",
    "success_rate",
    "success_low",
    "success_high",
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
_FEWEST_STATES = 10  # that λ is fitted on


@dataclass(frozen=True)
class AuditRow:
    """One agent of an audit.

    Attributes:
        agent: ``"plain"`` or the method.
        mean_return: Over the episodes.
        low: Lower end of the 95 % interval of the mean return, see ``return_interval``. NaN where there is none, as
            from one episode, or from equal returns that are no success.
        high: Upper end.
        success_rate: In [0, 1]; ``None`` unless every episode reports ``is_success``.
        success_low: Lower end of the success rate's 95 % interval, see ``rate_interval``; ``None`` where there is no
            success rate.
        success_high: Upper end.
        equivariance_error: ``max_g ||f(gs) - g f(s)|| / ||f(s)||`` of Q-values or logits on visited states.
        disagreement_share: Share of visited states where the greedy action changes with the orientation; see
            ``disagreement_share``.
        n_episodes: Number of episodes.
    """

    agent: str
    mean_return: float
    low: float
    high: float
    success_rate: float | None
    success_low: float | None
    success_high: float | None
    equivariance_error: float
    disagreement_share: float
    n_episodes: int

    def cells(self) -> tuple[Any, ...]:
        """Return the values of ``AUDIT_COLUMNS``, empty where there is none."""
        returns = (self.mean_return, self.low, self.high, self.success_rate, self.success_low, self.success_high)
        return (
            self.agent,
            *("" if value is None or math.isnan(value) else round(value, 4) for value in returns),
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

    Equal seeds give equal audits (see ``rollout_observations``, also for what stays as it was). Returns are those of
    the environment, without ``VecNormalize``'s scaling of rewards.

    A saved agent does not know whether its observations were normalised: give environments with its ``VecNormalize``.

    Args:
        model: A plain agent, or one whose method is not exact.
        environments: Where to evaluate it; also where it visits the states that λ is fitted on.
        symmetry: A registered name or an ``MDPSymmetry``.
        n_episodes: Episodes of each.
        n_states: Visited states, from the agent's own rollouts; at least 10.
        seed: Seed of rollouts and episodes.
        deterministic: Whether the agents act greedily.
        method_kwargs: Settings by method.
        progress: Called with the name of each agent before its episodes.

    Returns:
        Plain, equitune, equizero, λ-equitune and canonical; of a recurrent agent all but λ-equitune, whose λ acts at
        the first step of an episode alone: most visited states say nothing about it. An agent whose method is not
        exact, such as ``"partial"``, has one row, its own.

    Raises:
        TypeError: As ``symmetrize_agent``; or a number that is none.
        ValueError: As ``symmetrize_agent``, before any step of the environment: an agent that is equivariant already,
            for one. Unknown methods or settings, too few episodes or states, or environments that the agent does not
            know.
    """
    n_episodes = whole_number(n_episodes, "n_episodes", 1)
    n_states = whole_number(n_states, "n_states", _FEWEST_STATES)
    seed = whole_number(seed, "seed", 0)
    settings = _settings_by_method(method_kwargs)
    resolved = symmetry_on(agent_symmetry(model, symmetry), model.device)
    variants = _variants_of(model)
    if len(variants) > 1:
        _check_variants(model, resolved, settings)
    elif settings:
        raise ValueError(
            f"this agent stands alone ({next(iter(variants))}), so that {', '.join(settings)} is not asked"
        )
    visited, starts = rollout_histories(model, environments, n_states, seed=seed)
    normalize = unwrap_vec_normalize(environments)
    rows = []
    for name, method in variants.items():
        if method == "lambda_equitune" and isinstance(model.policy, RecurrentActorCriticPolicy):
            continue
        if progress is not None:
            progress(name)
        agent = (
            model
            if method is None
            else symmetrize_agent(model, resolved, method, settings.get(name), observations=visited)
        )
        with measurement(agent, environments, seed + 1):
            episodes = evaluate_episodes(agent, environments, n_episodes, deterministic)
        returns, successes = episodes.returns, episodes.successes if episodes.all_report else None
        scores, states = before_normalization(history_scores(agent, starts), visited, normalize)
        low, high = return_interval(returns, successes)
        success_low, success_high = (
            (None, None) if successes is None else rate_interval(int(successes.sum()), len(successes))
        )
        rows.append(
            AuditRow(
                name,
                float(returns.mean()),
                low,
                high,
                None if successes is None else float(successes.mean()),
                success_low,
                success_high,
                equivariance_error(scores, resolved.observation, resolved.action, states),
                disagreement_share(scores, resolved, states, model.action_space),
                len(returns),
            )
        )
    return rows


def _variants_of(model: BaseAlgorithm) -> dict[str, str | None]:
    """Return what is compared: an agent whose method is not exact stands alone, as it cannot be symmetrized again."""
    if not isinstance(model.policy, SymmetricPolicy):
        return _VARIANTS
    network = orbit_networks(model)[0]
    return _VARIANTS if network.exact else {network.method: None}


def _settings_by_method(given: Any) -> dict[str, dict[str, Any]]:
    """Return settings by method, each a dict of its own.

    Raises:
        TypeError: No mapping of mappings.
        ValueError: Settings of no method.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"method_kwargs is a mapping of methods to settings; got {given!r}")
    for name, settings in given.items():
        if _VARIANTS.get(name) is None:
            raise ValueError(unknown_name_message("method", name, [each for each in _VARIANTS if _VARIANTS[each]]))
        if not isinstance(settings, Mapping):
            raise TypeError(f"method_kwargs[{name!r}] is a mapping of settings to values; got {settings!r}")
    return {name: dict(settings) for name, settings in given.items()}


def _check_variants(model: BaseAlgorithm, symmetry: MDPSymmetry, settings: Mapping[str, dict[str, Any]]) -> None:
    """Raise whatever symmetrizing would, before the first step of an environment.

    Raises:
        TypeError: As ``symmetrize_agent``.
        ValueError: As ``symmetrize_agent``.
    """
    symmetrize_agent(model, symmetry, "equitune", settings.get("equitune"))
    symmetrize_agent(model, symmetry, "canonical", settings.get("canonical"))
    equizero = settings.get("equizero", {})
    if equizero.get("proxy_loss") == "novelty":  # made from the states that are still to be visited
        equizero = {**equizero, "proxy_loss": "max_value"}
    symmetrize_agent(model, symmetry, "equizero", equizero)
    lambda_settings = settings.get("lambda_equitune")
    make_aggregator("lambda_equitune", lambda_settings, {"features": 1, "inputs": 1}, symmetry.observation)


def draw_audit(rows: list[AuditRow], title: str, picture: Path) -> None:
    """Write a PNG: returns with their intervals where there are some, and how often greedy actions disagree.

    Raises:
        ValueError: No rows.
    """
    if not rows:
        raise ValueError("there is nothing to draw: an audit without rows")
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [row.agent for row in rows]
    means = np.array([row.mean_return for row in rows])
    errors = np.array([[row.mean_return - row.low, row.high - row.mean_return] for row in rows]).T
    left.bar(names, means, alpha=0.75)
    known = np.isfinite(errors).all(axis=0)
    left.errorbar(np.flatnonzero(known), means[known], errors[:, known], fmt="none", ecolor="black", capsize=4)
    left.set_ylabel("return")
    interval = ", 95 % intervals" if known.all() else ", 95 % intervals where returns vary" if known.any() else ""
    left.set_title(f"{title}: mean of {rows[0].n_episodes} episodes{interval}", fontsize=9)
    right.bar(names, [row.disagreement_share for row in rows], alpha=0.75, color="tab:orange")
    right.set_ylim(0, 1)
    right.set_ylabel("share of visited states")
    right.set_title("greedy action depends on the orientation", fontsize=9)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
