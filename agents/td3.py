"""Equivariant policy for SB3's TD3 and DDPG: ``pi(gs) = g pi(s)`` and ``Q(gs, ga) = Q(s, a)``, exactly."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3.td3.policies import Actor, TD3Policy

from equirl.agents.continuous_networks import PointActor
from equirl.agents.continuous_policy import ContinuousPolicy
from equirl.agents.sac import EquivariantContinuousCritic

__all__ = ["EquivariantTD3Actor", "EquivariantTD3Policy"]


class EquivariantTD3Actor(PointActor, Actor):
    """TD3's actor, symmetrized; arguments as for ``ContinuousOrbitNetwork`` and SB3's ``Actor``."""


class EquivariantTD3Policy(ContinuousPolicy, TD3Policy):
    """SB3's policy of TD3 and DDPG with an exactly equivariant actor and invariant critics.

    ``TD3(EquivariantTD3Policy, env, policy_kwargs=dict(symmetry="pendulum-z2", method="canonical"))``. Noise on actions
    keeps the symmetry as long as the group does not change how it is distributed: independent, of mean 0 and of one
    size for all numbers that change places, as SB3's usual noises are.

    Args:
        observation_space: As for ``EquivariantSACPolicy``.
        action_space: ``Box``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the hidden layers, as SB3 takes them.
        activation_fn: Activation.
        features_extractor_class: As for ``EquivariantDQNPolicy``.
        symmetry: As for ``EquivariantDQNPolicy``. Required.
        method: As for ``EquivariantSACPolicy``.
        method_kwargs: As for ``EquivariantSACPolicy``.
        **kwargs: Further arguments of SB3's ``TD3Policy``.

    Raises:
        TypeError: The action space is not ``Box``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    algorithm: ClassVar[str] = "TD3"
    actor_class = EquivariantTD3Actor
    critic_class = EquivariantContinuousCritic
