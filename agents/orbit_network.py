"""What every equivariant network of an agent shares: the orbit of its observations, checkpoints that know a group."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor, nn

from equirl.agents.spaces import NetworkInputs, resolve_symmetry
from equirl.chunking import Chunking
from equirl.constructions import trivial_representation
from equirl.eager import eager
from equirl.matrices import Linear, MatrixRepresentation, blocks
from equirl.methods import RELAXED_METHODS, make_aggregator, make_relaxation
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap
from equirl.relaxation import Relaxation
from equirl.representations import MonomialRepresentation, Representation, Tree
from equirl.symmetry import MDPSymmetry

__all__ = ["OrbitNetwork", "alike_numbers", "orbit_networks", "side_by_side", "unsigned"]

_METADATA_KEY = "equirl_group"
_FINGERPRINT_KEY = "equirl_symmetry"


class OrbitNetwork(nn.Module):
    """Mixin for SB3 networks and policies: the group acts on the observation as the environment gave it.

    That is before SB3 scales or one-hot encodes it. The state dict keeps SB3's keys (with ``aggregator.network.*``
    added for λ), so weights of a plain agent load into equitune and equizero and the other way round. Checkpoints
    carry the group's name outside the keys.

    Attributes:
        symmetry: The symmetry, built for the spaces.
        method: Name of the method.
        method_kwargs: Its settings.
        input_rep: How the group moves an observation.
        output_rep: How it moves what the network gives.
        aggregator: How the orbit of outputs becomes one.
        relaxation: What opens the exact output to a free correction, for ``method="partial"``; otherwise ``None``.
    """

    observation_space: Any  # SB3's, whose classes differ in how they declare them
    action_space: Any
    normalize_images: Any
    symmetry: MDPSymmetry
    method: str
    method_kwargs: dict[str, Any]
    relaxation: Relaxation | None

    leading: ClassVar[str | None] = None
    """The entry of the input that the canonical choice looks at first; see ``MinimalFrame``."""

    def _set_symmetry(
        self,
        symmetry: str | MDPSymmetry,
        method: str,
        method_kwargs: Mapping[str, Any] | None,
        features_dim: int,
    ) -> None:
        """Take symmetry and method; to be called once, when the rest of the network is there."""
        resolved = resolve_symmetry(symmetry, self.observation_space, self.action_space)
        self.symmetry = resolved
        self.method = method
        self.method_kwargs = dict(method_kwargs or {})
        # Copies, so that the tables follow this network to its device and no other.
        self.input_rep = self._input_rep(copy.deepcopy(resolved))
        self.output_rep = self._output_rep(copy.deepcopy(resolved.action))
        inputs = NetworkInputs(self._input_space(), self.normalize_images)
        sizes = {"features": features_dim, "inputs": inputs.size}
        self.aggregator = make_aggregator(
            method, method_kwargs, sizes, self.input_rep, inputs, self.leading, relaxed=True
        )
        places = self._gate_rep(copy.deepcopy(resolved.action))
        self.relaxation = make_relaxation(
            *(method, method_kwargs, inputs.size, self.input_rep, places, self.output_rep.dim),
            *(self._spread, inputs, self.leading),
        )
        self._chunking = Chunking([self])

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode, as ``nn.Module`` does; SB3 asks for it twice in every step."""
        self.__dict__["training"] = mode
        for child in self._modules.values():
            _set_training(child, mode)
        return self

    @property
    def exact(self) -> bool:
        """Whether the method is exactly equivariant."""
        return self.method not in RELAXED_METHODS

    @property
    def orbit_map(self) -> OrbitMap:
        """Representations, aggregator and chunking, as they are now."""
        parts: Any = self._modules
        return OrbitMap(parts["input_rep"], parts["output_rep"], parts["aggregator"], self._chunking)

    def evaluate_orbit(self, obs: PyTorchObs) -> Orbit:
        """Return what the network makes of the whole orbit, before it is aggregated.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        return self._shown(self.orbit_map.evaluate(self._head, self._observations(obs), self._features))

    def symmetrized(self, obs: PyTorchObs) -> Tensor:
        """Return the network's output, made equivariant; with ``method="partial"`` as far as the gate is shut.

        Raises:
            ValueError: NaN or infinite observations, or a shape that does not fit.
        """
        observations = self._observations(obs)
        return self._relaxed(observations, self.orbit_map(self._head, observations, self._features, self._shown))

    def _relaxed(self, observations: Tree, exact: Tensor) -> Tensor:
        """Return the output for observations as ``_observations`` gives them, once the exact one is known."""
        if self.relaxation is None:
            return exact
        relaxed: Tensor = self.relaxation(observations, exact)
        return relaxed

    def orbit_weights(self, obs: PyTorchObs) -> Tensor:
        """Return the weight of each group element for each observation, shape ``[B, |G|]``, rows summing to 1."""
        return self.orbit_map.weights(self._head, self._observations(obs), self._features, self._shown)

    def _observations(self, obs: PyTorchObs) -> Tree:
        observations = _as_rows(obs, self.observation_space)
        _check_finite(observations)
        # SB3 makes floats of them later anyway, of |G| times as many.
        return _as_floats(observations, self.observation_space)

    def _input_space(self) -> spaces.Space[Any]:
        """Return the space of what the network reads."""
        space: spaces.Space[Any] = self.observation_space
        return space

    def _input_rep(self, symmetry: MDPSymmetry) -> Representation:
        """Return how the group moves what the network reads."""
        return symmetry.observation

    def _output_rep(self, action: Linear) -> Linear:
        """Return how the group moves the network's output, given how it moves the actions."""
        return action

    def _gate_rep(self, action: Linear) -> MonomialRepresentation:
        """Return how the group moves the gate's numbers, for ``method="partial"``: one for each output, by default."""
        return unsigned(self.output_rep)

    def _spread(self, opening: Tensor) -> Tensor:
        """Return the gate's numbers, ``[B, *places]``, as they lie over the output."""
        return opening

    def _shown(self, orbit: Orbit) -> Orbit:
        """Return the orbit as proxy losses are to see it: ``outputs`` with one score per action, ``[B, |G|, A]``."""
        return orbit

    @abstractmethod
    def _features(self, rows: Tree) -> Tensor:
        """Return the features that λ may read, ``[N, F]``, of observations ``[N, *observation]``."""

    @abstractmethod
    def _head(self, features: Tensor) -> Tensor:
        """Return the network's output of its features."""

    def _symmetry_parameters(self) -> dict[str, Any]:
        return {"symmetry": self.symmetry, "method": self.method, "method_kwargs": self.method_kwargs}

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Metadata, not an entry: an extra key would keep plain agents from loading these weights.
        destination._metadata[prefix[:-1]][_METADATA_KEY] = self.symmetry.group.name
        destination._metadata[prefix[:-1]][_FINGERPRINT_KEY] = self.symmetry.fingerprint()

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        saved, ours = local_metadata.get(_METADATA_KEY), self.symmetry.group.name
        fingerprints = local_metadata.get(_FINGERPRINT_KEY), self.symmetry.fingerprint()
        # The fingerprint decides where both have one: it knows how the group acts, and not what it is called.
        other = saved != ours if None in fingerprints else fingerprints[0] != fingerprints[1]
        if saved is not None and other:
            acts = "" if saved != ours else ", which moves observations or actions in another way"
            raise ValueError(
                f"these weights were saved with the group {saved}{acts}, but this network has {ours} "
                f"(symmetry {self.symmetry.name!r}); make the model with the symmetry of the weights, or load the file "
                "with the algorithm's load, DQN.load for example, which restores its own"
            )
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)


def _set_training(module: nn.Module | None, mode: bool) -> None:
    if module is None:
        return
    if type(module).train is not nn.Module.train or type(module).__setattr__ is not nn.Module.__setattr__:
        module.train(mode)  # a scripted module, for one, keeps its mode elsewhere
        return
    # Past nn.Module.__setattr__, which takes most of the time of its own walk.
    module.__dict__["training"] = mode
    for child in module._modules.values():
        _set_training(child, mode)


# Where SB3's policies keep their networks: the acting one first, then what it learns from, targets last.
_NETWORKS = (
    *("q_net", "q_net_target", "quantile_net", "quantile_net_target"),
    *("actor", "critic", "actor_target", "critic_target"),
)


def orbit_networks(model: BaseAlgorithm) -> list[OrbitNetwork]:
    """Return the equivariant networks of an agent, the acting one first: Q-network, actor and critics, or the policy.

    Raises:
        TypeError: The agent's policy is not equivariant.
    """
    if isinstance(model.policy, OrbitNetwork):
        return [model.policy]
    named = [getattr(model.policy, name, None) for name in _NETWORKS]
    found = [network for network in named if isinstance(network, OrbitNetwork)]
    if found:
        return found
    raise TypeError(
        f"{type(model.policy).__name__} is not equivariant; make it so with equirl.agents.symmetrize_agent, or train "
        "with a policy of equirl.agents"
    )


def unsigned(representation: Linear) -> MonomialRepresentation:
    """Return how the group moves sizes, such as standard deviations: as the numbers themselves, without signs.

    Where matrices mix numbers, sizes stay what they are. Standard deviations must also be the same for all numbers that
    are mixed (``alike_numbers``); gates of ``method="partial"`` need not.
    """
    if isinstance(representation, MatrixRepresentation):
        return trivial_representation(representation.group, representation.shape)
    return MonomialRepresentation(representation.group, representation.shape, representation.index)


def alike_numbers(action: Linear) -> Tensor | None:
    """Return what averages numbers of an action that the group exchanges or mixes, ``[A, A]``; ``None`` for none.

    A standard deviation that is no function of the state must be the same for all of them.
    """
    if isinstance(action, MatrixRepresentation):
        joined = blocks(action).cpu()
        return joined / joined.sum(dim=1, keepdim=True)
    index = action.index.cpu()
    if not bool((index != torch.arange(action.dim)).any()):
        return None
    return torch.nn.functional.one_hot(index, action.dim).to(torch.get_default_dtype()).mean(dim=0)


def side_by_side(outputs: list[Tensor]) -> Tensor:
    """Return outputs ``[N, n]`` of several layers as one, ``[N, sum n]``.

    The factor 1 gives each layer a gradient in one piece of memory, which is summed in the order of SB3's own networks:
    with one element in the group, training is theirs to the last bit.
    """
    return torch.cat([values * 1 if torch.is_grad_enabled() else values for values in outputs], dim=1)


def _as_rows(obs: PyTorchObs, space: spaces.Space[Any]) -> Tree:
    if not isinstance(obs, Tensor):
        parts = space.spaces if isinstance(space, spaces.Dict) else {}
        return {key: _as_rows(obs[key], part) for key, part in parts.items()}
    # SB3 hands Discrete observations on as [B] when acting and as [B, 1] from the replay buffer.
    return obs.reshape(-1) if isinstance(space, spaces.Discrete) else obs


def _as_floats(obs: Tree, space: spaces.Space[Any]) -> Tree:
    if isinstance(space, spaces.Box):
        return cast(Tensor, obs).float()
    if isinstance(space, spaces.Dict):
        return {key: _as_floats(cast("dict[str, Tree]", obs)[key], part) for key, part in space.spaces.items()}
    return obs  # numbers of one of several things: no quantities


def _check_finite(obs: Tree) -> None:
    if not isinstance(obs, Tensor):
        for part in obs.values():
            _check_finite(part)
    elif obs.is_floating_point() and eager(obs) and not bool(torch.isfinite(obs).all()):
        row = int((~torch.isfinite(obs.flatten(1))).any(dim=1).nonzero()[0])
        bad = obs[row].flatten()
        value = float(bad[~torch.isfinite(bad)][0])
        raise ValueError(
            f"observation {row} of the batch holds {value}; every observation must be finite. Look at the "
            "environment's step() and reset(), or wrap it in SB3's VecCheckNan to find the step"
        )
