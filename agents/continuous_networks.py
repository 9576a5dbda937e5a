"""Equivariant actors and critics for continuous actions: ``pi(ga | gs) = pi(a | s)`` and ``Q(gs, ga) = Q(s, a)``.

The classes here hold what the networks of SAC, TQC, CrossQ, TD3 and DDPG have in common. The file of each algorithm
combines them with the plain network of that algorithm.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, ClassVar, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import PyTorchObs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from torch import Tensor, nn

from equirl.agents.orbit_network import OrbitNetwork, alike_numbers, side_by_side, unsigned
from equirl.agents.orbit_noise import OrbitNoiseDistribution, latent_representation
from equirl.agents.round_squash import RoundSquashedGaussian, within_discs
from equirl.agents.sb3_doors import weights_held
from equirl.agents.spaces import check_actions, resolve_symmetry
from equirl.aggregators import Select, Weighted
from equirl.constructions import trivial_representation
from equirl.mappings import MappingRepresentation
from equirl.matrices import Linear, MatrixRepresentation, beside, blocks
from equirl.orbit import Orbit
from equirl.representations import MonomialRepresentation, Representation, Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["ACTION", "OBSERVATION", "ContinuousOrbitNetwork", "GaussianActor", "OrbitCritic", "PointActor"]

OBSERVATION, ACTION = "observation", "action"
"""The entries of what a critic reads."""


class ContinuousOrbitNetwork(OrbitNetwork):
    """Mixin for SB3's actors and critics of ``Box`` actions.

    Args:
        symmetry: A registered name or an ``MDPSymmetry`` that fits the spaces.
        method: ``"equitune"``, ``"lambda_equitune"``, ``"equizero"`` or ``"canonical"``.
        method_kwargs: Settings of the method; see ``equirl.agents.make_aggregator``.
        **kwargs: Arguments of SB3's network.

    Raises:
        TypeError: The action space is not ``Box``.
        ValueError: Unknown symmetry, method or setting, or a symmetry that does not fit the spaces; on call:
            observations or actions that are not finite; on loading: a checkpoint of another group.
    """

    def __init__(
        self,
        *,
        symmetry: str | MDPSymmetry,
        method: str = "lambda_equitune",
        method_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        check_actions(kwargs["action_space"], (spaces.Box,), type(self).__name__)
        resolved = resolve_symmetry(symmetry, kwargs["observation_space"], kwargs["action_space"])
        super().__init__(**kwargs)
        network: Any = self
        self._width = kwargs["net_arch"][-1] if kwargs["net_arch"] else self._inputs_size(kwargs["features_dim"])
        self._set_symmetry(resolved, method, method_kwargs, self._width * getattr(network, "n_critics", 1))

    def _inputs_size(self, features_dim: int) -> int:
        """Return how many numbers the first layer reads."""
        return features_dim

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), **self._symmetry_parameters()}  # type: ignore[misc]


class PointActor(ContinuousOrbitNetwork):
    """An actor without noise, TD3's: ``pi_G(s) = sum_g w(gs) g^-1 pi(gs)``, all of it within [-1, 1].

    Where the group mixes numbers of an action, their vector is no longer than 1.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        action = self.symmetry.action
        self._joined = blocks(action).cpu() if isinstance(action, MatrixRepresentation) else None

    def forward(self, obs: PyTorchObs) -> Tensor:
        """Return the actions, ``[B, A]`` in [-1, 1], of observations ``[B, *observation]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        actions = self.symmetrized(obs)
        if self._joined is not None:
            return within_discs(actions, self._joined)
        return actions if self.relaxation is None else actions.clamp(-1, 1)  # a correction may lead out

    def _features(self, rows: Tree) -> Tensor:
        network: Any = self
        hidden: Tensor = network.extract_features(rows, network.features_extractor)
        for layer in _hidden_layers(network.mu):
            hidden = layer(hidden)
        return hidden

    def _head(self, features: Tensor) -> Tensor:
        network: Any = self
        actions = features
        for layer in _last_layers(network.mu):
            actions = layer(actions)
        return actions


class GaussianActor(ContinuousOrbitNetwork):
    """An actor that draws actions from a squashed Gaussian, SAC's.

    The mean moves as an action does, the standard deviation as its size: ``mean_G(s) = sum_g w(gs) rho(g)^-1 mean(gs)``
    and ``log std_G(s) = sum_g w(gs) |rho(g)|^-1 log std(gs)``, with the same weights. As ``tanh`` is odd, the squashed
    action has the symmetry, too: ``log pi(ga | gs) = log pi(a | s)``. Where the group mixes numbers of an action, they
    share a standard deviation and are squashed by their length (``RoundSquashedGaussian``). With ``use_sde`` the
    features of the noise are symmetrized instead of the standard deviation; see ``OrbitNoiseDistribution``.
    """

    use_sde: bool
    action_dist: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._alike: Tensor | None = None
        self._round: RoundSquashedGaussian | None = None
        if isinstance(self.symmetry.action, MatrixRepresentation):
            self._alike = alike_numbers(self.symmetry.action)
            self.action_dist = self._round = RoundSquashedGaussian(self.symmetry.action)
        if self.use_sde:
            self.action_dist = OrbitNoiseDistribution(self.action_dist, self.symmetry.permuted_actions)

    def get_action_dist_params(self, obs: PyTorchObs) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return mean and logarithm of the standard deviation, ``[B, A]`` each, and no further arguments.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        parameters = self.symmetrized(obs)
        if self.use_sde:
            network: Any = self
            n_actions = self.symmetry.n_actions
            return parameters[:, :n_actions], network.log_std, {"latent_sde": parameters[:, n_actions:]}
        mean, log_std = parameters.chunk(2, dim=1)
        if self._alike is not None:
            log_std = log_std @ self._alike.to(log_std.device)
        return mean, torch.clamp(log_std, LOG_STD_MIN, LOG_STD_MAX), {}

    def squash(self, mean: Tensor) -> Tensor:
        """Return the actions of means ``[..., A]``."""
        return mean.tanh() if self._round is None else self._round.squashed(mean)

    def _output_rep(self, action: Linear) -> Linear:
        if self.use_sde:
            return beside(action, latent_representation(self.symmetry.permuted_actions, self._width))
        return beside(action, unsigned(action))

    def _gate_rep(self, action: Linear) -> MonomialRepresentation:
        return super()._gate_rep(action) if self.use_sde else unsigned(action)

    def _spread(self, opening: Tensor) -> Tensor:
        return opening if self.use_sde else torch.cat([opening, opening], dim=1)

    def _shown(self, orbit: Orbit) -> Orbit:
        mean = orbit.outputs[..., : self.symmetry.n_actions]
        return replace(orbit, outputs=self.squash(mean), combined=orbit.outputs)

    def _features(self, rows: Tree) -> Tensor:
        network: Any = self
        features: Tensor = network.latent_pi(network.extract_features(rows, network.features_extractor))
        return features

    def _head(self, features: Tensor) -> Tensor:
        network: Any = self
        if self.use_sde:
            return torch.cat([network.mu(features), features.repeat(1, self.symmetry.n_actions)], dim=1)
        return side_by_side([network.mu(features), network.log_std(features)])


class OrbitCritic(ContinuousOrbitNetwork):
    """Critics with ``Q_G(s, a) = sum_g w(gs, ga) Q(gs, ga)``, one or several networks, each with one or more numbers.

    The group acts on observation and action together. The canonical choice looks at the observation, and at the action
    only where observations tie, so that the value does not jump while the action moves.
    """

    leading: ClassVar[str | None] = OBSERVATION

    share_features_extractor: bool
    n_critics: int
    q_networks: Any  # a list of torch modules; SB3's critics differ in how they declare it

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # A module, so that it moves to the device of the networks.
        self._first_rep = trivial_representation(self.symmetry.group, (self._n_each(),))

    def values(self, obs: PyTorchObs, actions: Tensor) -> Tensor:
        """Return the invariant values of all networks, ``[B, n_critics * n]``.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        both: Any = {OBSERVATION: obs, ACTION: actions}
        if self.relaxation is None:
            with weights_held(self, actions):
                return self._values(both)
        return self._values(both)

    def _values(self, both: Any) -> Tensor:
        if self._weights_read_the_networks():
            return self.symmetrized(both)
        rows = self._observations(both)
        return self._relaxed(rows, self.orbit_map(lambda views: self._whole(self.q_networks, views), rows))

    def first_values(self, obs: PyTorchObs, actions: Tensor) -> Tensor:
        """Return the invariant values of the first network, ``[B, n]``; the others are asked if the weights need them.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        if self._weights_read_the_networks() or self.relaxation is not None:
            return self.values(obs, actions)[:, : self._n_each()]
        alone = self.orbit_map._replace(output_rep=self._first_rep)
        rows = self._observations({OBSERVATION: obs, ACTION: actions})
        with weights_held(self, actions):
            return alone(lambda views: self._whole(self.q_networks[:1], views), rows)

    def _weights_read_the_networks(self) -> bool:
        """Return whether the weights hang on what the networks make of the views, and not on the views alone."""
        if isinstance(self.aggregator, Weighted):
            return self.aggregator.reads == "features"
        return isinstance(self.aggregator, Select)

    def each_value(self, obs: PyTorchObs, actions: Tensor) -> tuple[Tensor, ...]:
        """Return the invariant values one network after the other, ``[B, n]`` each."""
        return torch.split(self.values(obs, actions), self._n_each(), dim=1)

    def plain_values(self, obs: Tree, actions: Tensor) -> Tensor:
        """Return one value of each network for the views as they are, ``[N, n_critics]``: nothing is symmetrized."""
        values = self._whole(self.q_networks, {OBSERVATION: obs, ACTION: actions})
        return values.view(-1, self.n_critics, self._n_each()).mean(dim=2)

    def _n_each(self) -> int:
        """Return how many numbers each network gives."""
        return 1

    def _inputs_size(self, features_dim: int) -> int:
        return features_dim + int(torch.tensor(self.action_space.shape).prod())

    def _input_space(self) -> spaces.Space[Any]:
        return spaces.Dict({OBSERVATION: self.observation_space, ACTION: self.action_space})

    def _input_rep(self, symmetry: MDPSymmetry) -> Representation:
        return MappingRepresentation({OBSERVATION: symmetry.observation, ACTION: symmetry.action})

    def _output_rep(self, action: Linear) -> Linear:
        return trivial_representation(action.group, (self.n_critics * self._n_each(),))

    def _gate_rep(self, action: Linear) -> MonomialRepresentation:
        return trivial_representation(action.group, (1,))

    def _observations(self, obs: Any) -> Tree:
        return {OBSERVATION: super()._observations(obs[OBSERVATION]), ACTION: cast(Tensor, obs[ACTION]).float()}

    def _shown(self, orbit: Orbit) -> Orbit:
        each = orbit.outputs.view(*orbit.outputs.shape[:2], self.n_critics, self._n_each()).mean(dim=3)
        return replace(orbit, outputs=each, combined=orbit.outputs)

    def _whole(self, networks: list[nn.Module], rows: Tree) -> Tensor:
        """Return what some networks make of views, ``[N, len(networks) * n]``."""
        seen = self._seen(rows)
        return self._joined([network(seen) for network in networks])

    def _features(self, rows: Tree) -> Tensor:
        seen = self._seen(rows)
        return torch.cat([_through(_hidden_layers(network), seen) for network in self.q_networks], dim=1)

    def _head(self, features: Tensor) -> Tensor:
        each = features.chunk(self.n_critics, dim=1)
        outputs = [
            _through(_last_layers(network), hidden.contiguous())  # a strided product rounds otherwise
            for network, hidden in zip(self.q_networks, each, strict=True)
        ]
        return self._joined(outputs)

    def _joined(self, outputs: list[Tensor]) -> Tensor:
        """Return the outputs of several critics as one tensor."""
        return side_by_side(outputs)

    def _seen(self, rows: Tree) -> Tensor:
        """Return what the critics read, ``[N, F + A]``: features of the observations beside the actions."""
        parts = cast("dict[str, Any]", rows)
        network: Any = self
        # As in SB3: a features extractor that is shared with the actor learns from the actor's loss alone.
        with torch.no_grad() if self.share_features_extractor else nullcontext():
            features = network.extract_features(parts[OBSERVATION], network.features_extractor)
        return torch.cat([features, parts[ACTION]], dim=1)


def _through(layers: list[nn.Module], values: Tensor) -> Tensor:
    for layer in layers:
        values = layer(values)
    return values


def _hidden_layers(network: Any) -> list[nn.Module]:
    """Return the layers of an ``nn.Sequential`` up to its last linear one."""
    return list(network)[: _last_linear(network)]


def _last_layers(network: Any) -> list[nn.Module]:
    """Return the last linear layer of an ``nn.Sequential`` and what follows it, such as ``Tanh``."""
    return list(network)[_last_linear(network) :]


def _last_linear(network: Any) -> int:
    return max(place for place, layer in enumerate(network) if isinstance(layer, nn.Linear))
