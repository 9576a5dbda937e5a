"""Equivariant policy for sb3-contrib's MaskablePPO: masks move with the actions, illegal ones are never drawn."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.distributions import MaskableDistribution
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import Tensor

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.matrices import Linear
from equirl.representations import MonomialRepresentation

__all__ = ["EquivariantMaskablePolicy", "values_of_bits"]


class EquivariantMaskablePolicy(ActorCriticOrbit, MaskableActorCriticPolicy):
    """sb3-contrib's maskable policy with ``pi(ga | gs, gm) = pi(a | s, m)`` for masks ``m``, and an invariant value.

    ``MaskablePPO(EquivariantMaskablePolicy, env, policy_kwargs=dict(symmetry="board-d4", method="canonical"))``. The
    logits are equivariant whatever is legal, and the mask is applied to them: where the world moves the legal actions
    with the state, as board games do, equal moves have equal probabilities.

    Args:
        observation_space: Any space that SB3 knows and the symmetry fits.
        action_space: ``Discrete``, ``MultiDiscrete`` or ``MultiBinary``.
        lr_schedule: Learning rate schedule.
        **kwargs: As for ``EquivariantActorCriticPolicy``, and further arguments of sb3-contrib's policy.

    Raises:
        TypeError: Actions of another space.
        ValueError: As for ``EquivariantActorCriticPolicy``; later on, masks of another size than the actions.
    """

    algorithm: ClassVar[str] = "Maskable"
    takes: ClassVar[tuple[type[spaces.Space[Any]], ...]] = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)

    def forward(self, obs: Any, deterministic: bool = False, action_masks: Any = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return legal actions ``[B, *action]``, values ``[B, 1]`` and log-probabilities ``[B]``."""
        distribution, values = self._masked_and_values(obs, action_masks)
        actions = distribution.get_actions(deterministic=deterministic)
        log_prob = distribution.log_prob(actions)
        return actions.reshape((-1, *self.action_space.shape)), values, log_prob

    def evaluate_actions(
        self, obs: Any, actions: Tensor, action_masks: Any = None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return values ``[B, 1]``, log-probabilities of the actions ``[B]`` and entropies ``[B]``."""
        distribution, values = self._masked_and_values(obs, action_masks)
        return values, distribution.log_prob(actions), distribution.entropy()

    def get_distribution(self, obs: PyTorchObs, action_masks: Any = None) -> MaskableDistribution:
        """Return the equivariant distribution over the legal actions."""
        return self._masked_and_values(obs, action_masks)[0]

    def _output_rep(self, action: Linear) -> Linear:
        bits = isinstance(self.action_space, spaces.MultiBinary)
        return super()._output_rep(values_of_bits(self.symmetry.permuted_actions) if bits else action)

    def _masked_and_values(self, obs: PyTorchObs, action_masks: Any) -> tuple[MaskableDistribution, Tensor]:
        distribution, values = self._distribution_and_values(obs)
        if action_masks is not None:
            policy: Any = self
            expected = (len(values), int(policy.action_net.out_features))
            if math.prod(shape := tuple(np.shape(action_masks))) != math.prod(expected):
                raise ValueError(
                    f"masks of shape {shape} do not fit {self.action_space}: give one row for "
                    f"each observation and one column for each value of an action, {expected}"
                )
            distribution.apply_masking(action_masks)
        return distribution, values


def values_of_bits(bits: MonomialRepresentation) -> MonomialRepresentation:
    """Return how the values 0 and 1 of all bits change places, ``[2 n]``: sb3-contrib gives each value a logit.

    Value ``v`` of bit ``i`` is read from bit ``index[g, i]``, from the other value where the sign says that it flips.
    """
    value = (bits.sign.cpu().long() == -1).unsqueeze(2) ^ torch.tensor([False, True])
    read_from = (2 * bits.index.cpu().unsqueeze(2) + value).flatten(1)
    return MonomialRepresentation(bits.group, (2 * bits.dim,), read_from)
