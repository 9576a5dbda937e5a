"""Trained agents made equivariant: the ways that the studies compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3 import DQN
from torch import Tensor, nn

from equirl.agents import Disagreement, LambdaFit, replay_observations, symmetrize_agent

__all__ = ["VARIANTS", "Variant", "symmetrized"]


@dataclass(frozen=True)
class Variant:
    """One way to symmetrize: a method, its settings, and for λ how it is fitted and on how many states."""

    method: str | None
    method_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fit: LambdaFit = field(default_factory=LambdaFit)
    n_states: int = 10_000

    @property
    def asks_others(self) -> bool:
        """Whether it needs agents of other seeds."""
        return self.method_kwargs.get("proxy_loss") == "ensemble"


_INPUTS = {"reads": "inputs", "hidden": (64,)}

VARIANTS: dict[str, Variant] = {
    "plain": Variant(None),
    "equitune": Variant("equitune"),
    "equizero, max_value": Variant("equizero", {"proxy_loss": "max_value"}),
    "equizero, entropy": Variant("equizero", {"proxy_loss": "entropy"}),
    "equizero, confidence": Variant("equizero", {"proxy_loss": "confidence"}),
    "equizero, target_disagreement": Variant("equizero", {"proxy_loss": "target_disagreement"}),
    "equizero, ensemble of the seeds": Variant("equizero", {"proxy_loss": "ensemble"}),
    "equizero, bellman_residual": Variant("equizero", {"proxy_loss": "bellman_residual"}),
    "equizero, novelty": Variant("equizero", {"proxy_loss": "novelty"}),
    "λ-equitune, inputs": Variant("lambda_equitune", _INPUTS),
    "λ-equitune, inputs, linear": Variant("lambda_equitune", {"reads": "inputs", "hidden": ()}),
    "λ-equitune, features": Variant("lambda_equitune", {"reads": "features", "hidden": (64,)}),
    "λ-equitune, features, linear": Variant("lambda_equitune", {"reads": "features", "hidden": ()}),
    "λ-equitune, inputs, recognize": Variant("lambda_equitune", _INPUTS, fit=LambdaFit(objective="recognize")),
    "λ-equitune, inputs, 300 states": Variant("lambda_equitune", _INPUTS, n_states=300),
    "λ-equitune, inputs, random states": Variant("lambda_equitune", _INPUTS, n_states=0),
}
"""What is compared, by name. ``n_states=0``: λ fitted on uniformly drawn states, most of which the agent never saw."""


def symmetrized(
    model: DQN, symmetry: str, variant: Variant, others: Sequence[nn.Module] = (), states: Tensor | None = None
) -> DQN:
    """Return an agent made equivariant, or itself where it is to stay plain.

    Args:
        model: A trained agent with its replay buffer.
        symmetry: Name of the symmetry.
        variant: How.
        others: Q-networks of other seeds, for a variant that asks them.
        states: What λ is fitted on where the variant draws none from the replay buffer.
    """
    if variant.method is None:
        return model
    settings = dict(variant.method_kwargs) | ({"proxy_loss": Disagreement(others)} if variant.asks_others else {})
    observations = None
    if variant.method == "lambda_equitune":
        observations = replay_observations(model, variant.n_states) if variant.n_states else states
    return symmetrize_agent(model, symmetry, variant.method, settings, observations=observations, fit=variant.fit)
