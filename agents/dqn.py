"""Equivariant Q-networks for Stable-Baselines3's DQN: ``Q(gs, ga) = Q(s, a)``, exactly, whatever the backbone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from equirl.agents.features_extractors import resolve_features_extractor
from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.spaces import resolve_symmetry
from equirl.agents.symmetric_policy import SymmetricPolicy, with_fused_adam
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["EquivariantDQNPolicy", "EquivariantQNetwork"]


class EquivariantQNetwork(OrbitNetwork, QNetwork):
    """SB3's Q-network, symmetrized: ``Q_G(s) = sum_g w(gs) g^-1 Q(gs)`` (Basu et al. 2023, arXiv:2305.09900).

    The group acts on the observation as the environment gave it, before SB3 scales or one-hot encodes it. The state
    dict has plain DQN's keys (and ``aggregator.network.*`` for λ), so weights of a plain agent load into equitune and
    equizero and the other way round. Checkpoints carry the group's name outside the keys.

    Args:
        symmetry: A registered name or an ``MDPSymmetry`` that fits the spaces.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``. λ reads the last hidden layer
            (``reads="features"``) or the flattened raw observation (``reads="inputs"``).
        **kwargs: As for SB3's ``QNetwork``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: Unknown symmetry, method or setting, or a symmetry that does not fit the spaces; on call:
            observations that are not finite; on loading: a checkpoint of another group.
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
        """Return ``Q_G(s)``, shape ``[B, A]``, for observations ``[B, *observation]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        return self.symmetrized(obs)

    def _features(self, rows: Tree) -> Tensor:
        hidden: Tensor = self.extract_features(rows, self.features_extractor)
        *layers, _ = self.q_net
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    def _head(self, features: Tensor) -> Tensor:
        q_values: Tensor = self.q_net[-1](features)
        return q_values

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._symmetry_parameters()}


class EquivariantDQNPolicy(SymmetricPolicy, DQNPolicy):
    """SB3's DQN policy with an exactly equivariant Q-network: use it as ``"MlpPolicy"``, plus a symmetry.

    ``DQN(EquivariantDQNPolicy, env, policy_kwargs=dict(symmetry="grid-d4", method="lambda_equitune"))``. Target
    network, saving, loading, ``predict``, ``set_parameters`` and replay are SB3's.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``.
        lr_schedule: Learning rate schedule.
        net_arch: Widths of the Q-network's hidden layers.
        activation_fn: Activation of the Q-network.
        features_extractor_class: Any SB3 features extractor, as a class or a dotted path (for YAML files); by default
            ``CombinedExtractor`` for ``Dict`` observations, else ``FlattenExtractor``. ``equirl.agents.GridCNN`` is a
            CNN for small grids.
        symmetry: A registered name (``"grid-c4"``, ``"grid-d4"``, ...) or an ``MDPSymmetry``. Required.
        method: ``"equitune"``, ``"lambda_equitune"`` (default), ``"equizero"`` or ``"canonical"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``.
        **kwargs: Further arguments of SB3's ``DQNPolicy``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
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
            net_arch,
            activation_fn,
            resolve_features_extractor(features_extractor_class, observation_space),
            **with_fused_adam(kwargs),
        )

    def make_q_net(self) -> EquivariantQNetwork:
        """Return a new equivariant Q-network; SB3 calls it for the online and the target network."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQNetwork(**net_args, **self._network_kwargs).to(self.device)
