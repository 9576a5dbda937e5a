"""What the value networks of DQN and QR-DQN share: a head on the last hidden layer, which λ may read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.orbit_network import OrbitNetwork
from equirl.agents.spaces import check_actions, resolve_symmetry
from equirl.representations import Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["ValueOrbitNetwork"]


class ValueOrbitNetwork(OrbitNetwork):
    """Mixin for SB3 networks that are one ``nn.Sequential`` on the features.

    Args:
        symmetry: A registered name or an ``MDPSymmetry`` that fits the spaces.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``. λ reads the last hidden layer
            (``reads="features"``) or the flattened raw observation (``reads="inputs"``).
        **kwargs: Arguments of SB3's network.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: Unknown symmetry, method or setting, or a symmetry that does not fit the spaces; on call:
            observations that are not finite; on loading: a checkpoint of another group.
    """

    layers: ClassVar[str]
    """Name of the ``nn.Sequential``."""

    def __init__(
        self,
        *,
        symmetry: str | MDPSymmetry,
        method: str = "lambda_equitune",
        method_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_actions(kwargs["action_space"], (spaces.Discrete,), type(self).__name__)
        resolved = resolve_symmetry(symmetry, kwargs["observation_space"], kwargs["action_space"])
        super().__init__(**kwargs)
        network: Any = self
        features_dim = network.net_arch[-1] if network.net_arch else network.features_dim
        self._set_symmetry(resolved, method, method_kwargs, features_dim)

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Return the symmetrized values for observations ``[B, *observation]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        return self.symmetrized(obs)

    def _features(self, rows: Tree) -> Tensor:
        network: Any = self
        hidden: Tensor = network.extract_features(rows, network.features_extractor)
        *layers, _ = getattr(self, self.layers)
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    def _head(self, features: Tensor) -> Tensor:
        values: Tensor = getattr(self, self.layers)[-1](features)
        return values

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._symmetry_parameters()}  # type: ignore[misc]
