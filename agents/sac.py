"""Equivariant policy for Stable-Baselines3's SAC: ``pi(ga | gs) = pi(a | s)`` and ``Q(gs, ga) = Q(s, a)``, exactly."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch import Tensor

from equirl.agents.continuous_networks import GaussianActor, OrbitCritic
from equirl.agents.continuous_policy import ContinuousPolicy

__all__ = ["EquivariantContinuousCritic", "EquivariantSACActor", "EquivariantSACPolicy"]


class EquivariantSACActor(GaussianActor, Actor):
    """SAC's actor, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and SB3's ``Actor``."""


class EquivariantContinuousCritic(OrbitCritic, ContinuousCritic):
    """SB3's critics of SAC, TD3 and DDPG, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and SB3's critic."""

    def forward(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """Return the invariant values, ``[B, 1]`` from each critic."""
        return self.each_value(obs, actions)

    def q1_forward(self, obs: PyTorchObs, actions: Tensor) -> Tensor:
        """Return the invariant values of the first critic, ``[B, 1]``."""
        return self.first_values(obs, actions)


class EquivariantSACPolicy(ContinuousPolicy, SACPolicy):
    """SB3's SAC policy with an exactly equivariant actor and invariant critics: ``"MlpPolicy"``, plus a symmetry.

    ``SAC(EquivariantSACPolicy, env, policy_kwargs=dict(symmetry="pendulum-z2", method="equitune"))``. Target networks,
    entropy tuning, saving, loading, ``predict`` and replay are SB3's.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Box``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the hidden layers, as SB3 takes them.
        activation_fn: Activation.
        features_extractor_class: As for ``EquivariantDQNPolicy``.
        symmetry: As for ``EquivariantDQNPolicy``. Required.
        method: As for ``EquivariantDQNPolicy``; actor and critics share it, and have a λ each.
        method_kwargs: As for ``EquivariantDQNPolicy``; for equizero see ``ContinuousPolicy``.
        **kwargs: Further arguments of SB3's ``SACPolicy``.

    Raises:
        TypeError: The action space is not ``Box``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    algorithm: ClassVar[str] = "SAC"
    actor_class = EquivariantSACActor
    critic_class = EquivariantContinuousCritic
