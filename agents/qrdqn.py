"""Equivariant quantile networks for sb3-contrib's QR-DQN: the whole return distribution is equivariant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from equirl.agents.features_extractors import resolve_features_extractor
from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.spaces import resolve_symmetry
from equirl.agents.symmetric_policy import SymmetricPolicy, with_fused_adam
from equirl.constructions import tensor_product, trivial_representation
from equirl.orbit import Orbit
from equirl.representations import MonomialRepresentation, Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["EquivariantQRDQNPolicy", "EquivariantQuantileNetwork"]


class EquivariantQuantileNetwork(OrbitNetwork, QuantileNetwork):
    """QR-DQN's quantile network, symmetrized: ``Z_G(s) = sum_g w(gs) g^-1 Z(gs)``, quantile by quantile.

    Averaging quantile functions is the Wasserstein-2 barycentre of the return distributions. Proxy losses see the mean
    over the quantiles, the Q-values.

    Args:
        symmetry: As for ``EquivariantQNetwork``.
        method: As for ``EquivariantQNetwork``.
        method_kwargs: As for ``EquivariantQNetwork``.
        **kwargs: As for sb3-contrib's ``QuantileNetwork``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: As for ``EquivariantQNetwork``.
    """

    def __init__(
        self,
        *,
        symmetry: str | MDPSymmetry,
        method: str = "lambda_equitune",
        method_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        resolved = resolve_symmetry(symmetry, kwargs["observation_space"], kwargs["action_space"])
        super().__init__(**kwargs)
        features_dim = self.net_arch[-1] if self.net_arch else self.features_dim
        self._set_symmetry(resolved, method, method_kwargs, features_dim)

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Return the quantiles, shape ``[B, n_quantiles, A]``, for observations ``[B, *observation]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        return self.symmetrized(obs)

    def _output_rep(self, action: MonomialRepresentation) -> MonomialRepresentation:
        return tensor_product(trivial_representation(action.group, (self.n_quantiles,)), action)

    def _shown(self, orbit: Orbit) -> Orbit:
        return replace(orbit, outputs=orbit.outputs.mean(dim=2), combined=orbit.outputs)

    def _features(self, rows: Tree) -> Tensor:
        hidden: Tensor = self.extract_features(rows, self.features_extractor)
        *layers, _ = self.quantile_net
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    def _head(self, features: Tensor) -> Tensor:
        quantiles: Tensor = self.quantile_net[-1](features)
        return quantiles.view(-1, self.n_quantiles, quantiles.shape[1] // self.n_quantiles)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._symmetry_parameters()}


class EquivariantQRDQNPolicy(SymmetricPolicy, QRDQNPolicy):
    """sb3-contrib's QR-DQN policy with an exactly equivariant quantile network.

    ``QRDQN(EquivariantQRDQNPolicy, env, policy_kwargs=dict(symmetry="grid-d4", method="lambda_equitune"))``.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``.
        lr_schedule: Learning rate schedule.
        n_quantiles: Number of quantiles.
        net_arch: Widths of the hidden layers.
        activation_fn: Activation.
        features_extractor_class: As for ``EquivariantDQNPolicy``.
        symmetry: As for ``EquivariantDQNPolicy``. Required.
        method: As for ``EquivariantDQNPolicy``.
        method_kwargs: As for ``EquivariantDQNPolicy``.
        **kwargs: Further arguments of sb3-contrib's ``QRDQNPolicy``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    algorithm: ClassVar[str] = "QRDQN"

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        n_quantiles: int = 200,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | str | None = None,
        *,
        symmetry: str | MDPSymmetry | None = None,
        method: str | None = None,
        method_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        # Set before super().__init__(), which builds the networks.
        self._network_kwargs = self._symmetry_arguments(
            symmetry, method, method_kwargs, observation_space, action_space
        )
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            n_quantiles,
            net_arch,
            activation_fn,
            resolve_features_extractor(features_extractor_class, observation_space),
            **with_fused_adam(kwargs),
        )

    def make_quantile_net(self) -> EquivariantQuantileNetwork:
        """Return a new equivariant quantile network; sb3-contrib calls it for the online and the target network."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQuantileNetwork(**net_args, **self._network_kwargs).to(self.device)
