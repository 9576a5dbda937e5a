"""Equivariant policy for sb3-contrib's CrossQ: batch renormalization sees whole orbits, and so keeps the symmetry."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from sb3_contrib.crossq.policies import Actor, CrossQCritic, CrossQPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.continuous_networks import GaussianActor, OrbitCritic
from equirl.agents.continuous_policy import ContinuousPolicy

__all__ = ["EquivariantCrossQActor", "EquivariantCrossQCritic", "EquivariantCrossQPolicy"]


class EquivariantCrossQActor(GaussianActor, Actor):
    """CrossQ's actor, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and sb3-contrib's ``Actor``."""


class EquivariantCrossQCritic(OrbitCritic, CrossQCritic):
    """CrossQ's critics, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and sb3-contrib's critic."""

    def forward(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """Return the invariant values, ``[B, 1]`` from each critic."""
        return self.each_value(obs, actions)

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        return torch.cat(outputs, dim=1)  # CrossQ joins them itself, so that its gradients lie in memory like this


class EquivariantCrossQPolicy(ContinuousPolicy, CrossQPolicy):
    """sb3-contrib's CrossQ policy with an exactly equivariant actor and invariant critics.

    Its batch renormalization normalises all views of a batch together while it trains (for the canonical choice, the
    chosen ones). They are the same views whichever orientation a sample came in, so the statistics, and the network
    with them, are equivariant in training as in evaluation.

    ``CrossQ(EquivariantCrossQPolicy, env, policy_kwargs=dict(symmetry="pendulum-z2", method="equitune"))``. Arguments
    and errors as for ``EquivariantSACPolicy``, and a ``TypeError`` for ``Dict`` observations, which CrossQ does not
    take; further arguments are those of sb3-contrib's ``CrossQPolicy``.
    """

    algorithm: ClassVar[str] = "CrossQ"
    adam: ClassVar[dict[str, Any]] = {"betas": (0.5, 0.999)}
    actor_class = EquivariantCrossQActor
    critic_class = EquivariantCrossQCritic

    def __init__(self, observation_space: spaces.Space[Any], *args: Any, **kwargs: Any) -> None:
        if isinstance(observation_space, spaces.Dict):
            raise TypeError(
                "sb3-contrib's CrossQ joins observations to one batch, and so takes no Dict ones: flatten them "
                "(gymnasium.wrappers.FlattenObservation), or take TQC or SAC"
            )
        super().__init__(observation_space, *args, **kwargs)
