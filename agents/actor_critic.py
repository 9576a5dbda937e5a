"""Equivariant actor-critic policies for Stable-Baselines3's PPO and A2C: equivariant logits, invariant value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.constructions import direct_sum, trivial_representation
from equirl.orbit import Orbit
from equirl.representations import MonomialRepresentation, Tree

__all__ = ["EquivariantActorCriticPolicy"]


class EquivariantActorCriticPolicy(SymmetricPolicy, OrbitNetwork, ActorCriticPolicy):
    """SB3's actor-critic policy with ``pi(ga | gs) = pi(a | s)`` and ``V(gs) = V(s)``, exactly.

    ``PPO(EquivariantActorCriticPolicy, env, policy_kwargs=dict(symmetry="grid-d4", method="equitune"))``. Logits and
    value are symmetrized together, with the same weights: ``(logits, V)_G(s) = sum_g w(gs) (g^-1 logits(gs), V(gs))``.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the hidden layers, as SB3 takes them.
        activation_fn: Activation.
        features_extractor_class: As for ``EquivariantDQNPolicy``.
        symmetry: As for ``EquivariantDQNPolicy``. Required.
        method: As for ``EquivariantDQNPolicy``.
        method_kwargs: As for ``EquivariantDQNPolicy``; λ on features reads the last hidden layers of actor and critic.
            Proxy losses of equizero see the logits, so the default one is ``"entropy"``.
        **kwargs: Further arguments of SB3's ``ActorCriticPolicy``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    algorithm: ClassVar[str] = "ActorCritic"

    adam: ClassVar[dict[str, Any]] = {"eps": 1e-5}

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return actions ``[B]``, values ``[B, 1]`` and log-probabilities ``[B]``."""
        distribution, values = self._distribution_and_values(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values ``[B, 1]``, log-probabilities of the actions ``[B]`` and entropies ``[B]``."""
        distribution, values = self._distribution_and_values(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """Return the equivariant distribution over the actions."""
        return self._distribution_and_values(obs)[0]

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return the invariant values, ``[B, 1]``."""
        return self._distribution_and_values(obs)[1]

    def logits(self, obs: PyTorchObs) -> Tensor:
        """Return the equivariant logits of the actions, ``[B, A]``."""
        return self.symmetrized(obs)[:, :-1]

    def _distribution_and_values(self, obs: PyTorchObs) -> tuple[Distribution, Tensor]:
        both = self.symmetrized(obs)
        return self.action_dist.proba_distribution(action_logits=both[:, :-1]), both[:, -1:]

    def _symmetry_arguments(self, *args: Any) -> dict[str, Any]:
        arguments = super()._symmetry_arguments(*args)
        if arguments["method"] == "equizero":
            arguments["method_kwargs"] = {"proxy_loss": "entropy", **arguments["method_kwargs"]}
        return arguments

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()
        # Here, so that λ is among the parameters when SB3 makes the optimizer.
        features_dim = self.mlp_extractor.latent_dim_pi + self.mlp_extractor.latent_dim_vf
        self._set_symmetry(**self._network_kwargs, features_dim=features_dim)
        self.aggregator.to(self.device)

    def _output_rep(self, action: MonomialRepresentation) -> MonomialRepresentation:
        return direct_sum(action, trivial_representation(action.group, (1,)))

    def _shown(self, orbit: Orbit) -> Orbit:
        return replace(orbit, outputs=orbit.outputs[..., :-1], combined=orbit.outputs)

    def _features(self, rows: Tree) -> Tensor:
        features: Any = self.extract_features(rows)
        if self.share_features_extractor:
            features = (features, features)
        actor, critic = features
        return torch.cat([self.mlp_extractor.forward_actor(actor), self.mlp_extractor.forward_critic(critic)], dim=1)

    def _head(self, features: Tensor) -> Tensor:
        actor, critic = torch.split(
            features, [self.mlp_extractor.latent_dim_pi, self.mlp_extractor.latent_dim_vf], dim=1
        )
        return torch.cat([self.action_net(actor), self.value_net(critic)], dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # SB3 leaves out whether the features extractor is shared.
        shared = {"share_features_extractor": self.share_features_extractor}
        return {**super()._get_constructor_parameters(), **shared}
