"""Equivariant actor-critic policies for PPO, A2C and TRPO: ``pi(ga | gs) = pi(a | s)``, invariant value."""

from __future__ import annotations

from typing import ClassVar

from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.actor_critic_network import ActorCriticOrbit

__all__ = ["EquivariantActorCriticPolicy"]


class EquivariantActorCriticPolicy(ActorCriticOrbit, ActorCriticPolicy):
    """SB3's actor-critic policy with ``pi(ga | gs) = pi(a | s)`` and ``V(gs) = V(s)``, exactly.

    ``PPO(EquivariantActorCriticPolicy, env, policy_kwargs=dict(symmetry="grid-d4", method="equitune"))``; see
    ``ActorCriticOrbit`` for what is symmetrized.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the hidden layers, as SB3 takes them.
        activation_fn: Activation.
        features_extractor_class: As for ``EquivariantDQNPolicy``.
        symmetry: As for ``EquivariantDQNPolicy``. Required.
        method: As for ``EquivariantDQNPolicy``.
        method_kwargs: As for ``EquivariantDQNPolicy``; λ on features reads the last hidden layers of actor and critic.
            Proxy losses of equizero see the logits of ``Discrete`` actions (by default ``"entropy"``), and of others
            the value (by default ``"max_value"``).
        **kwargs: Further arguments of SB3's ``ActorCriticPolicy``.

    Raises:
        TypeError: Actions of another space.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    algorithm: ClassVar[str] = "ActorCritic"

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions ``[B, *action]``, values ``[B, 1]`` and log-probabilities ``[B]``."""
        distribution, values = self._distribution_and_values(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), values, log_prob

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values ``[B, 1]``, log-probabilities of the actions ``[B]`` and entropies ``[B]``."""
        distribution, values = self._distribution_and_values(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """Return the equivariant distribution over the actions."""
        distribution: Distribution = self._distribution_and_values(obs)[0]
        return distribution
