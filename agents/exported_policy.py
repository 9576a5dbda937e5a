"""The policy of an agent as one module, from the observations of an environment to what the agent acts on."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, cast

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.agents.orbit_network import OrbitNetwork, orbit_networks
from equirl.agents.scores import action_function
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.representations import Tree

__all__ = ["ExportedPolicy", "exported_policy"]


class ExportedPolicy(nn.Module):
    """The part of a policy that acts: one tensor for a batch of observations. ``exported_policy`` makes it.

    Args:
        policy: The policy.
        compute: The scores or the scaled action of observations.
        space: The action space.
        network: The network that acts, where it is equivariant.

    Attributes:
        output: ``"q_values"`` (DQN, QR-DQN: the mean over the quantiles), ``"action_logits"`` (actors of ``Discrete``,
            ``MultiDiscrete`` and ``MultiBinary`` actions: logits, or log-odds of the bits) or ``"action"`` (actors of
            ``Box`` actions: the deterministic action in the units of the space, as ``predict`` gives it).
        acting: The equivariant network that acts, in a tuple; empty for a plain policy.
    """

    _low: Tensor
    _high: Tensor

    def __init__(
        self,
        policy: nn.Module,
        compute: Callable[[Any], Tensor],
        space: spaces.Space[Any],
        network: OrbitNetwork | None = None,
    ) -> None:
        super().__init__()
        self.policy = policy
        self._compute = compute
        self._space = space
        self.acting = () if network is None else (network,)  # in a tuple: it is a part of the policy already
        values = hasattr(policy, "q_net") or hasattr(policy, "quantile_net")
        self.output = "q_values" if values else "action" if isinstance(space, spaces.Box) else "action_logits"
        if isinstance(space, spaces.Box):
            self.register_buffer("_low", torch.as_tensor(space.low))
            self.register_buffer("_high", torch.as_tensor(space.high))

    def forward(self, observation: Tree) -> Tensor:
        """Return the output ``[B, *output]`` of observations ``[B, *observation]``, for ``Dict`` spaces of a dict."""
        computed = self._compute(observation)
        if not isinstance(self._space, spaces.Box):
            return computed
        actions = computed.reshape(-1, *self._space.shape)
        if not cast(Any, self.policy).squash_output:
            return torch.minimum(torch.maximum(actions, self._low), self._high)
        return self._low + 0.5 * (actions + 1) * (self._high - self._low)


def exported_policy(model: BaseAlgorithm) -> ExportedPolicy:
    """Return the acting part of an agent's policy as a module on the CPU.

    Args:
        model: An agent, equivariant or plain; one that lives on a GPU is copied.

    Raises:
        TypeError: A recurrent agent, or a policy that is none of SB3's or sb3-contrib's.
    """
    if isinstance(model.policy, RecurrentActorCriticPolicy):
        raise TypeError(
            f"{type(model).__name__} remembers its episode, and an exported policy has no place for that: run it with "
            "equirl.agents.load_agent and predict(), or train an algorithm without memory on stacked frames"
        )
    if torch.device(model.device).type != "cpu":
        saved = io.BytesIO()
        model.save(saved)
        saved.seek(0)
        model = type(model).load(saved, device="cpu")
    policy = model.policy
    network = orbit_networks(model)[0] if isinstance(policy, SymmetricPolicy) else None
    return ExportedPolicy(policy, _acting_function(model), model.action_space, network)


def _acting_function(model: BaseAlgorithm) -> Callable[[Any], Tensor]:
    """Return the function to scores or actions, without SB3's distributions, whose checks look at numbers."""
    policy: Any = model.policy
    if not isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        return action_function(model)
    pairs = isinstance(policy, MaskableActorCriticPolicy) and isinstance(model.action_space, spaces.MultiBinary)

    def compute(observation: Any) -> Tensor:
        if isinstance(policy, ActorCriticOrbit):
            parameters = policy.action_parameters(observation)
        else:
            features: Any = policy.extract_features(observation)
            features = features if policy.share_features_extractor else features[0]
            parameters = policy.action_net(policy.mlp_extractor.forward_actor(features))
        if pairs:  # sb3-contrib gives each value of a bit a logit
            parameters = parameters[:, 1::2] - parameters[:, ::2]
        squashes = isinstance(model.action_space, spaces.Box) and policy.squash_output
        return parameters.tanh() if squashes else parameters

    return compute
