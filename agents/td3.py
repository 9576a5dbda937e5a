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

    Arguments and errors are those of ``EquivariantSACPolicy``; further arguments are those of SB3's ``TD3Policy``.
    """

    algorithm: ClassVar[str] = "TD3"
    actor_class = EquivariantTD3Actor
    critic_class = EquivariantContinuousCritic
