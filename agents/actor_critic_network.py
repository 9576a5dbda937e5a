"""What the equivariant actor-critic policies share: action parameters that move with the group, an invariant value."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.orbit_network import OrbitNetwork, alike_numbers, side_by_side
from equirl.agents.orbit_noise import OrbitNoiseDistribution, latent_representation
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.constructions import trivial_representation
from equirl.matrices import Linear, beside
from equirl.orbit import Orbit
from equirl.proxy_losses import confidence, entropy
from equirl.representations import Tree

__all__ = ["ActorCriticOrbit"]


class ActorCriticOrbit(SymmetricPolicy, OrbitNetwork):
    """Mixin for SB3's actor-critic policies: ``pi(ga | gs) = pi(a | s)`` and ``V(gs) = V(s)``, exactly.

    What the actor gives (logits of ``Discrete`` and ``MultiDiscrete``, log-odds of the bits of ``MultiBinary``, the
    mean of ``Box``) and the value are symmetrized together, with the same weights:
    ``(parameters, V)_G(s) = sum_g w(gs) (rho(g)^-1 parameters(gs), V(gs))``. The standard deviation of ``Box`` is no
    function of the state; numbers of an action that the group exchanges share its mean. For ``use_sde`` see
    ``OrbitNoiseDistribution``.
    """

    takes: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (
        spaces.Discrete,
        spaces.MultiDiscrete,
        spaces.MultiBinary,
        spaces.Box,
    )
    adam: ClassVar[dict[str, Any]] = {"eps": 1e-5}

    def action_parameters(self, obs: PyTorchObs) -> Tensor:
        """Return the equivariant logits, log-odds or means, ``[B, A]``."""
        parameters = self.symmetrized(obs)[:, :-1]
        return parameters[:, : self.symmetry.n_actions] if self._with_features else parameters

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return the invariant values, ``[B, 1]``."""
        return self.symmetrized(obs)[:, -1:]

    def _distribution_and_values(self, obs: PyTorchObs) -> tuple[Any, Tensor]:
        both = self.symmetrized(obs)
        return self._distribution(both[:, :-1]), both[:, -1:]

    def _distribution(self, parameters: Tensor) -> Any:
        """Return SB3's distribution of actions for its parameters, ``[B, A]``; with gSDE followed by features."""
        policy: Any = self
        if self._with_features:
            n_actions = self.symmetry.n_actions
            return policy.action_dist.proba_distribution(
                parameters[:, :n_actions], policy.log_std, parameters[:, n_actions:]
            )
        if isinstance(self.action_space, spaces.Box):
            return policy.action_dist.proba_distribution(parameters, self.symmetric_log_std())
        return policy.action_dist.proba_distribution(action_logits=parameters)

    def symmetric_log_std(self) -> Tensor:
        """Return the logarithm of the standard deviation, ``[A]``: its mean over numbers that change places."""
        policy: Any = self
        log_std: Tensor = policy.log_std
        return log_std if self._alike is None else self._alike.to(log_std.device) @ log_std

    def _symmetry_arguments(self, *args: Any) -> dict[str, Any]:
        arguments = super()._symmetry_arguments(*args)
        if arguments["method"] == "equizero":
            # The entropy of a Gaussian whose spread is no function of the state is the same for all views.
            several = isinstance(args[-1], spaces.Discrete) and args[-1].n > 1
            default = "entropy" if several else "max_value"
            arguments["method_kwargs"] = {"proxy_loss": default, **arguments["method_kwargs"]}
            given = arguments["method_kwargs"]["proxy_loss"]
            if not several and given in ("entropy", "confidence", entropy, confidence):
                raise ValueError(
                    f"with actions of {args[-1]} a proxy loss looks at the value of a view, one number, and "
                    f"{getattr(given, '__name__', given)!r} is then the same for all views: take 'max_value' (the "
                    "default), or a function of your own"
                )
        return arguments

    def _build_mlp_extractor(self) -> None:
        super()._build_mlp_extractor()  # type: ignore[misc]
        # Here, so that λ is among the parameters when SB3 makes the optimizer.
        policy: Any = self
        self._with_features = bool(getattr(policy, "use_sde", False))
        features_dim = policy.mlp_extractor.latent_dim_pi + policy.mlp_extractor.latent_dim_vf
        self._set_symmetry(**self._network_kwargs, features_dim=features_dim)
        self._alike = alike_numbers(self.symmetry.action)
        self.aggregator.to(policy.device)
        if self.relaxation is not None:
            self.relaxation.to(policy.device)
        if self._with_features:
            policy.action_dist = OrbitNoiseDistribution(policy.action_dist, self.symmetry.permuted_actions)

    def _output_rep(self, action: Linear) -> Linear:
        policy: Any = self
        if self._with_features:
            features = latent_representation(self.symmetry.permuted_actions, policy.mlp_extractor.latent_dim_pi)
            action = beside(action, features)
        return beside(action, trivial_representation(action.group, (1,)))

    def _shown(self, orbit: Orbit) -> Orbit:
        """Show proxy losses the logits of ``Discrete`` actions, and of others the value, ``[B, |G|, 1]``."""
        parts = orbit.outputs[..., :-1], orbit.outputs[..., -1:]
        shown = parts[0] if isinstance(self.action_space, spaces.Discrete) else parts[1]
        return replace(orbit, outputs=shown, combined=orbit.outputs)

    def _features(self, rows: Tree) -> Tensor:
        policy: Any = self
        features = policy.extract_features(rows)
        actor, critic = features if not policy.share_features_extractor else (features, features)
        extractor = policy.mlp_extractor
        return torch.cat([extractor.forward_actor(actor), extractor.forward_critic(critic)], dim=1)

    def _head(self, features: Tensor) -> Tensor:
        policy: Any = self
        extractor = policy.mlp_extractor
        actor, critic = torch.split(features, [extractor.latent_dim_pi, extractor.latent_dim_vf], dim=1)
        # A strided product would round otherwise than SB3's.
        actor, critic = actor.contiguous(), critic.contiguous()
        if self._with_features:
            noise = actor.repeat(1, self.symmetry.n_actions)
            return torch.cat([policy.action_net(actor), noise, policy.value_net(critic)], dim=1)
        return side_by_side([policy.action_net(actor), policy.value_net(critic)])

    def _get_constructor_parameters(self) -> dict[str, Any]:
        # SB3 leaves out whether the features extractor is shared.
        policy: Any = self
        shared = {"share_features_extractor": policy.share_features_extractor}
        return {**super()._get_constructor_parameters(), **shared}
