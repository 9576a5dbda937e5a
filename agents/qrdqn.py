"""Equivariant quantile networks for sb3-contrib's QR-DQN: the whole return distribution is equivariant."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from sb3_contrib.qrdqn.policies import QRDQNPolicy, QuantileNetwork
from torch import Tensor

from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.agents.value_network import ValueOrbitNetwork
from equirl.constructions import tensor_product, trivial_representation
from equirl.matrices import Linear
from equirl.orbit import Orbit
from equirl.representations import MonomialRepresentation

__all__ = ["EquivariantQRDQNPolicy", "EquivariantQuantileNetwork"]


class EquivariantQuantileNetwork(ValueOrbitNetwork, QuantileNetwork):
    """QR-DQN's quantile network, symmetrized: ``Z_G(s) = sum_g w(gs) g^-1 Z(gs)``, quantile by quantile.

    Averaging quantile functions is the Wasserstein-2 barycentre of the return distributions. Proxy losses see the mean
    over the quantiles, the Q-values.

    Args:
        **kwargs: Arguments of ``ValueOrbitNetwork`` (``symmetry``, ``method``, ``method_kwargs``) and of sb3-contrib's
            ``QuantileNetwork``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: As for ``ValueOrbitNetwork``.
    """

    layers = "quantile_net"

    def _output_rep(self, action: Linear) -> Linear:
        quantiles = trivial_representation(action.group, (self.n_quantiles,))
        return tensor_product(quantiles, self.symmetry.permuted_actions)

    def _gate_rep(self, action: Linear) -> MonomialRepresentation:
        return self.symmetry.permuted_actions

    def _spread(self, opening: Tensor) -> Tensor:
        return opening.unsqueeze(1)

    def _shown(self, orbit: Orbit) -> Orbit:
        return replace(orbit, outputs=orbit.outputs.mean(dim=2), combined=orbit.outputs)

    def _head(self, features: Tensor) -> Tensor:
        quantiles = super()._head(features)
        return quantiles.view(-1, self.n_quantiles, quantiles.shape[1] // self.n_quantiles)


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

    def make_quantile_net(self) -> EquivariantQuantileNetwork:
        """Return a new equivariant quantile network; sb3-contrib calls it for the online and the target network."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQuantileNetwork(**net_args, **self._network_kwargs).to(self.device)
