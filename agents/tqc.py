"""Equivariant policy for sb3-contrib's TQC: the whole distribution of returns is invariant, ``Z(gs, ga) = Z(s, a)``."""

from __future__ import annotations

from typing import ClassVar

import torch
from sb3_contrib.tqc.policies import Actor, Critic, TQCPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.continuous_networks import GaussianActor, OrbitCritic
from equirl.agents.continuous_policy import ContinuousPolicy

__all__ = ["EquivariantTQCActor", "EquivariantTQCCritic", "EquivariantTQCPolicy"]


class EquivariantTQCActor(GaussianActor, Actor):
    """TQC's actor, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and sb3-contrib's ``Actor``."""


class EquivariantTQCCritic(OrbitCritic, Critic):
    """TQC's quantile critics, symmetrized quantile by quantile; proxy losses see the mean over the quantiles."""

    def forward(self, obs: PyTorchObs, action: Tensor) -> Tensor:
        """Return the invariant quantiles, ``[B, n_critics, n_quantiles]``."""
        return torch.stack(self.each_value(obs, action), dim=1)

    def _n_each(self) -> int:
        return self.n_quantiles


class EquivariantTQCPolicy(ContinuousPolicy, TQCPolicy):
    """sb3-contrib's TQC policy with an exactly equivariant actor and invariant critics.

    ``TQC(EquivariantTQCPolicy, env, policy_kwargs=dict(symmetry="pendulum-z2", method="equitune"))``. Arguments and
    errors as for ``EquivariantSACPolicy``; further ones are those of sb3-contrib's ``TQCPolicy``.
    """

    algorithm: ClassVar[str] = "TQC"
    actor_class = EquivariantTQCActor
    critic_class = EquivariantTQCCritic
