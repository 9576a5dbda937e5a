"""The model card of an agent: what it was trained in, how well it does, and how to open it, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from equirl.agents.evaluation import evaluate_episodes
from equirl.agents.intervals import interval_text, rate_interval, return_interval
from equirl.agents.measuring import measurement
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.scores import action_scores, before_normalization
from equirl.agents.visited_states import rollout_observations
from equirl.arguments import whole_number
from equirl.testing import equivariance_error

__all__ = ["AgentCard", "Evaluation", "evaluate_for_card"]


@dataclass(frozen=True)
class Evaluation:
    """What evaluation episodes of an agent gave.

    Attributes:
        n_episodes: Number of episodes.
        mean_return: Mean undiscounted return.
        low: Lower end of the 95 % interval of the mean return; NaN where there is none.
        high: Upper end.
        success_rate: Share of successes; ``None`` unless every episode reports ``is_success``.
        success_low: Lower end of its 95 % interval; ``None`` where there is no rate.
        success_high: Upper end.
        seed: Seed of the episodes.
        deterministic: Whether the agent acted greedily.
        equivariance_error: ``max_g ||f(gs) - g f(s)|| / ||f(s)||`` of action scores on visited states; ``None`` for an
            agent without a symmetry.
    """

    n_episodes: int
    mean_return: float
    low: float
    high: float
    success_rate: float | None
    success_low: float | None
    success_high: float | None
    seed: int
    deterministic: bool
    equivariance_error: float | None


_ENDS = ("low", "high")


@dataclass(frozen=True)
class AgentCard:
    """What a card tells of an agent beyond its settings.

    Attributes:
        environment: Id of the environment it was trained in.
        environment_kwargs: The environment's settings.
        command: The command that trained it.
        hyperparameters: Those of the run, as texts, where they are known.
        evaluation: What evaluation episodes gave, where there were some.
        view_kwargs: Settings of the view, for MiniGrid's environments.
    """

    environment: str = ""
    environment_kwargs: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    hyperparameters: Mapping[str, str] = field(default_factory=dict)
    evaluation: Evaluation | None = None
    view_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return the card as JSON holds it."""
        found = asdict(self)
        found["environment_kwargs"] = {key: _plain(value) for key, value in self.environment_kwargs.items()}
        found["view_kwargs"] = {key: _plain(value) for key, value in self.view_kwargs.items()}
        if self.evaluation is not None:
            numbers = asdict(self.evaluation)
            found["evaluation"] = {key: None if _is_nan(value) else value for key, value in numbers.items()}
        return found

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> AgentCard:
        """Return the card that ``as_data`` returned.

        Raises:
            TypeError: Data of something else.
        """
        found: Any = data.get("evaluation")
        measured = None
        if found is not None:
            numbers: dict[str, Any] = {key: math.nan if key in _ENDS and x is None else x for key, x in found.items()}
            measured = Evaluation(**numbers)
        return cls(**{**data, "evaluation": measured})

    def markdown(self, about: Mapping[str, Any]) -> str:
        """Return the card as Markdown, for ``README.md``.

        Args:
            about: The agent's ``agent.json``.
        """
        symmetry = about["symmetry"]
        named = f"`{symmetry['name']}` (group {symmetry['group']})" if symmetry else "none"
        tags = ["reinforcement-learning", "stable-baselines3", "equirl"] + (["equivariance"] if symmetry else [])
        lines = ["---", "library_name: stable-baselines3", "tags:", *(f"- {tag}" for tag in tags), "---", ""]
        title = about["algorithm"].upper().replace("_", " ")
        lines += [f"# {title} in {self.environment or 'an environment that its file does not name'}", ""]
        settings = ", ".join(f"{key}={x}" for key, x in {**self.environment_kwargs, **self.view_kwargs}.items())
        world = f"`{self.environment}`" if self.environment else "-"
        rows = [
            ("Environment", f"{world} ({settings})" if settings else world),
            ("Algorithm", f"{title}, `{about['policy'].rpartition('.')[2]}`"),
            ("Symmetry", named),
            ("Method", f"`{symmetry['method']}`" if symmetry else "-"),
            ("Trained for", f"{about['settings'].get('num_timesteps', 0):,} steps"),
            *self._measured(),
        ]
        lines += ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]
        if self.command:
            lines += ["Trained by:", "", "```bash", self.command, "```", ""]
        if self.hyperparameters:
            lines += ["Hyperparameters:", "", "| name | value |", "|---|---|"]
            lines += [f"| {key} | `{_cell(value)}` |" for key, value in self.hyperparameters.items()] + [""]
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        lines += ["Opening it runs no code of the folder: it holds no pickle.", "", "```python"]
        lines += ["from equirl.agents import load_agent", "", 'model = load_agent("path/of/this/folder")', "```", ""]
        if about["normalization"] is not None:
            lines += [
                "Its observations were normalised, by statistics that the folder holds: "
                "`load_agent(folder, environment)` puts them around the environment, "
                "`equirl.agents.load_normalization(folder, environments)` does it alone.",
                "",
            ]
        return "\n".join([*lines, f"Saved with {versions}.", ""])

    def _measured(self) -> list[tuple[str, str]]:
        found = self.evaluation
        if found is None:
            return [("Return", "not measured")]
        how = (
            f"{found.n_episodes} episodes, {'greedy' if found.deterministic else 'sampled'} actions, seed {found.seed}"
        )
        interval = "" if math.isnan(found.low) else f", 95 % interval {interval_text((found.low, found.high), '.2f')}"
        rows = [("Return", f"{found.mean_return:.2f}{interval} ({how})")]
        if found.success_rate is not None:
            success = interval_text((found.success_low, found.success_high), ".3f")
            rows.append(("Success rate", f"{found.success_rate:.3f}, 95 % interval {success}"))
        if found.equivariance_error is not None:
            rows.append(("Equivariance error", f"{found.equivariance_error:.1e} on visited states"))
        return rows


def _plain(value: Any) -> Any:
    """Return a setting as JSON holds it, or its text."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    is_number = isinstance(value, (int, float)) and math.isfinite(value)
    return value if value is None or isinstance(value, str) or is_number else repr(value)


def _cell(text: str) -> str:
    """Return a text as a cell of a Markdown table holds it."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def evaluate_for_card(
    model: BaseAlgorithm,
    environments: VecEnv,
    n_episodes: int,
    *,
    n_states: int = 200,
    seed: int = 0,
    deterministic: bool = True,
) -> Evaluation:
    """Return what an agent reaches in evaluation episodes, and how equivariant it is on the states that it visits.

    Args:
        model: The agent.
        environments: Its environments, normalised as it saw them.
        n_episodes: Number of episodes.
        n_states: Visited states on which the equivariance error is measured.
        seed: Seed of the episodes.
        deterministic: Whether the agent acts greedily.

    Raises:
        TypeError: A number that is none.
        ValueError: No episodes, or environments that the agent does not know.
    """
    n_episodes = whole_number(n_episodes, "n_episodes", 1)
    with measurement(model, environments, seed):
        episodes = evaluate_episodes(model, environments, n_episodes, deterministic)
    returns, successes = episodes.returns, episodes.successes if episodes.all_report else None
    low, high = return_interval(returns, successes)
    rate = None if successes is None else float(successes.mean())
    rate_low, rate_high = (None, None) if successes is None else rate_interval(int(successes.sum()), len(successes))
    return Evaluation(
        n_episodes=len(returns),
        mean_return=float(returns.mean()),
        low=float(low),
        high=float(high),
        success_rate=rate,
        success_low=rate_low,
        success_high=rate_high,
        seed=seed,
        deterministic=deterministic,
        equivariance_error=_error(model, environments, n_states, seed),
    )


def _error(model: BaseAlgorithm, environments: VecEnv, n_states: int, seed: int) -> float | None:
    """Return the equivariance error of an agent on visited states; ``None`` for a plain agent."""
    try:
        symmetry = orbit_networks(model)[0].symmetry
    except TypeError:
        return None
    visited = rollout_observations(model, environments, n_states, seed=seed)
    scores, states = before_normalization(action_scores(model), visited, unwrap_vec_normalize(environments))
    return equivariance_error(scores, symmetry.observation, symmetry.action, states)
