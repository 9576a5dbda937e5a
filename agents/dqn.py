"""Equivariant Q-networks for Stable-Baselines3's DQN: ``Q(gs, ga) = Q(s, a)``, exactly, whatever the backbone."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from equirl.agents.methods import make_aggregator
from equirl.agents.spaces import flat_size, observation_shape, resolve_symmetry
from equirl.orbit import Orbit
from equirl.representations import Tree
from equirl.symmetrization import evaluate_orbit
from equirl.symmetry import MDPSymmetry

__all__ = ["EquivariantDQNPolicy", "EquivariantQNetwork"]

_METADATA_KEY = "equirl_group"


class EquivariantQNetwork(QNetwork):
    """SB3's Q-network, symmetrized: ``Q_G(s) = sum_g w(gs) g^-1 Q(gs)`` (Basu et al. 2023, arXiv:2305.09900).

    The group acts on the observation as the environment gave it, before SB3 scales or one-hot encodes it. The state
    dict has plain DQN's keys (and ``aggregator.network.*`` for λ), so weights of a plain agent load into equitune and
    equizero and the other way round. Checkpoints carry the group's name outside the keys.

    Args:
        symmetry: A registered name or an ``MDPSymmetry`` that fits the spaces.
        method: ``"equitune"``, ``"lambda_equitune"`` or ``"equizero"``.
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
        self.symmetry = resolved
        self.method = method
        self.method_kwargs = dict(method_kwargs or {})
        # Copies, so that the tables follow this network to its device and no other.
        self.input_rep = copy.deepcopy(resolved.observation)
        self.output_rep = copy.deepcopy(resolved.action)
        sizes = {
            "features": self.net_arch[-1] if self.net_arch else self.features_dim,
            "inputs": flat_size(observation_shape(self.observation_space)),
        }
        self.aggregator = make_aggregator(method, method_kwargs, sizes)

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Return ``Q_G(s)``, shape ``[B, A]``, for observations ``[B, *observation]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        q_values: Tensor = self.aggregator(self.evaluate_orbit(obs))
        return q_values

    def evaluate_orbit(self, obs: PyTorchObs) -> Orbit:
        """Return the Q-values of the whole orbit, ``outputs`` of shape ``[B, |G|, A]``, before they are aggregated."""
        observations = _as_rows(obs, self.observation_space)
        _check_finite(observations)
        return evaluate_orbit(self.q_net[-1], observations, self.input_rep, self.output_rep, self._last_hidden_layer)

    def orbit_weights(self, obs: PyTorchObs) -> Tensor:
        """Return the weight of each group element for each observation, shape ``[B, |G|]``, rows summing to 1."""
        return self.aggregator.weights(self.evaluate_orbit(obs))

    def _last_hidden_layer(self, rows: Tree) -> Tensor:
        hidden: Tensor = self.extract_features(rows, self.features_extractor)
        *layers, _ = self.q_net
        for layer in layers:
            hidden = layer(hidden)
        return hidden

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "symmetry": self.symmetry,
            "method": self.method,
            "method_kwargs": self.method_kwargs,
        }

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Metadata, not an entry: an extra key would keep plain DQN from loading these weights.
        destination._metadata[prefix[:-1]][_METADATA_KEY] = self.symmetry.group.name

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        saved, ours = local_metadata.get(_METADATA_KEY), self.symmetry.group.name
        if saved is not None and saved != ours:
            raise ValueError(
                f"these weights were saved with the group {saved}, but this network has {ours} "
                f"(symmetry {self.symmetry.name!r}); make the model with a symmetry of {saved}, or load the file with "
                "DQN.load, which restores its own"
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


class EquivariantDQNPolicy(DQNPolicy):
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
        method: ``"equitune"``, ``"lambda_equitune"`` (default) or ``"equizero"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``.
        **kwargs: Further arguments of SB3's ``DQNPolicy``.

    Raises:
        TypeError: The action space is not ``Discrete``.
        ValueError: No or an unknown symmetry, an unknown method, or a symmetry that does not fit the spaces.
    """

    fixed: ClassVar[dict[str, Any]] = {}
    """Policy arguments that a subclass has built in; see ``equirl.agents.policies``."""

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
        symmetry = self._argument("symmetry", symmetry)
        if symmetry is None:
            raise ValueError(
                f"{type(self).__name__} needs a symmetry: policy_kwargs=dict(symmetry='grid-d4', ...). If it was set "
                "and is gone: the search of rl_zoo3 (-optimize, --trial-id) replaces policy_kwargs; run it as "
                "`equirl train`, which keeps them, or name a policy class with the symmetry built in, such as "
                "equirl.agents.policies.GridD4LambdaEquitunePolicy"
            )
        # Set before super().__init__(), which builds the networks.
        self._network_kwargs: dict[str, Any] = {
            "symmetry": resolve_symmetry(symmetry, observation_space, action_space),
            "method": self._argument("method", method) or "lambda_equitune",
            "method_kwargs": dict(method_kwargs or {}),
        }
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            _features_extractor_class(features_extractor_class, observation_space),
            **kwargs,
        )

    def make_q_net(self) -> EquivariantQNetwork:
        """Return a new equivariant Q-network; SB3 calls it for the online and the target network."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return EquivariantQNetwork(**net_args, **self._network_kwargs).to(self.device)

    def _argument(self, name: str, given: Any) -> Any:
        built_in = self.fixed.get(name)
        if given is not None and built_in is not None and given != getattr(built_in, "name", built_in):
            shown = getattr(given, "name", given)
            if shown != built_in:
                raise ValueError(
                    f"{type(self).__name__} has {name}={built_in!r} built in; it cannot take {shown!r}. Use "
                    f"equirl.agents.EquivariantDQNPolicy to choose {name} in policy_kwargs"
                )
        return built_in if given is None else given

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._network_kwargs}


def _features_extractor_class(
    given: type[BaseFeaturesExtractor] | str | None, observation_space: spaces.Space[Any]
) -> type[BaseFeaturesExtractor]:
    if given is None:
        return CombinedExtractor if isinstance(observation_space, spaces.Dict) else FlattenExtractor
    if isinstance(given, str):
        module, _, name = given.rpartition(".")
        try:
            given = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"features_extractor_class {given!r} cannot be imported; give a class or a dotted path such as "
                "'equirl.agents.GridCNN'"
            ) from error
    if not (isinstance(given, type) and issubclass(given, BaseFeaturesExtractor)):
        raise TypeError(f"features_extractor_class must be a subclass of SB3's BaseFeaturesExtractor; got {given!r}")
    return given


def _as_rows(obs: PyTorchObs, space: spaces.Space[Any]) -> Tree:
    if not isinstance(obs, Tensor):
        parts = space.spaces if isinstance(space, spaces.Dict) else {}
        return {key: _as_rows(obs[key], part) for key, part in parts.items()}
    # SB3 hands Discrete observations on as [B] when acting and as [B, 1] from the replay buffer.
    return obs.reshape(-1) if isinstance(space, spaces.Discrete) else obs


def _check_finite(obs: Tree) -> None:
    if not isinstance(obs, Tensor):
        for part in obs.values():
            _check_finite(part)
    elif obs.is_floating_point() and not bool(torch.isfinite(obs).all()):
        row = int((~torch.isfinite(obs.flatten(1))).any(dim=1).nonzero()[0])
        bad = obs[row].flatten()
        value = float(bad[~torch.isfinite(bad)][0])
        raise ValueError(
            f"observation {row} of the batch holds {value}; every observation must be finite. Look at the "
            "environment's step() and reset(), or wrap it in SB3's VecCheckNan to find the step"
        )
