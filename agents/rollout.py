"""Symmetry augmentation of on-policy rollouts: the baseline for PPO and A2C that the replay buffer is for DQN."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, cast

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from equirl.agents.actor_critic_masked import values_of_bits
from equirl.agents.normalization import check_normalized_env
from equirl.agents.sb3_doors import calling_algorithm
from equirl.agents.symmetry_buffer import SymmetryBuffer

__all__ = [
    *("SymmetryDictRolloutBuffer", "SymmetryMaskableDictRolloutBuffer", "SymmetryMaskableRolloutBuffer"),
    "SymmetryRolloutBuffer",
]


class SymmetryRolloutBuffer(SymmetryBuffer, RolloutBuffer):
    """A rollout buffer that hands out each sample under a random group element: ``(gs, ga)`` instead of ``(s, a)``.

    ``PPO("MlpPolicy", env, rollout_buffer_class=SymmetryRolloutBuffer,
    rollout_buffer_kwargs=dict(symmetry="grid-d4"))``; from a YAML file for ``equirl train`` as
    ``equirl.agents.SymmetryRolloutBuffer``. Calling the class gives a subclass of it for ``Dict``
    observations.
    Advantages, returns and old values stay. So does the old log-probability, which belongs to ``(s, a)``: PPO's ratio
    is off where the policy is not symmetric yet, the known bias of this baseline (Raileanu et al. 2020,
    arXiv:2006.12862). Symmetrized policies have none.

    SB3 stores rollouts as the agent saw them, so normalise observations by ``SymmetricVecNormalize`` or not at all:
    with ``VecNormalize(norm_obs=True)`` the group would act on normalised ones, which have lost the symmetry.

    Args:
        buffer_size: Steps of each environment that it holds.
        observation_space: As for SB3's ``RolloutBuffer``.
        action_space: ``Discrete``, ``MultiDiscrete``, ``MultiBinary`` or ``Box``.
        *args: As for SB3's ``RolloutBuffer``.
        symmetry: A registered name or an ``MDPSymmetry``.
        **kwargs: As for SB3's ``RolloutBuffer``.

    Raises:
        TypeError: Actions of another space, or ``buffer_size`` is no whole number.
        ValueError: Unknown symmetry, one that does not fit the spaces, no room for a step, or observations normalised
            by statistics that are not symmetric.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check_normalization()

    @classmethod
    def _class_for(cls, dict_observations: bool, settings: dict[str, Any]) -> type[Any]:
        return SymmetryDictRolloutBuffer if cls is SymmetryRolloutBuffer and dict_observations else cls

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the samples in random order, each transformed by a random group element."""
        self._check_normalization()  # the environment may have changed
        order = self.symmetry.group.order
        for samples in super().get(batch_size):
            elements = torch.randint(order, (len(samples.actions),), device=self.device)
            moved = self._moved(elements, cast(Any, samples.observations))
            moved_actions = self._moved_actions(elements, samples.actions)
            yield self._replaced(samples, elements, observations=moved, actions=moved_actions)

    def _check_normalization(self) -> None:
        """Raise where the agent whose buffer this is sees observations that the group does not move any more."""
        agent = calling_algorithm()
        if agent is not None:
            check_normalized_env(agent.get_env(), self.symmetry)

    def _replaced(self, samples: Any, elements: torch.Tensor, **moved: Any) -> Any:
        """Return samples with what was moved by the elements, ``[B]``."""
        return samples._replace(**moved)


class SymmetryDictRolloutBuffer(SymmetryRolloutBuffer, DictRolloutBuffer):  # type: ignore[misc]  # as SB3's is
    """``SymmetryRolloutBuffer`` for ``Dict`` observations; arguments and errors are the same."""


class SymmetryMaskableRolloutBuffer(SymmetryRolloutBuffer, MaskableRolloutBuffer):  # type: ignore[misc]
    """``SymmetryRolloutBuffer`` for MaskablePPO: masks move with the actions, ``(gs, ga, gm)``. Errors are the same."""

    @classmethod
    def _class_for(cls, dict_observations: bool, settings: dict[str, Any]) -> type[Any]:
        own = cls is SymmetryMaskableRolloutBuffer
        return SymmetryMaskableDictRolloutBuffer if own and dict_observations else cls

    def _replaced(self, samples: Any, elements: torch.Tensor, **moved: Any) -> Any:
        action = self.symmetry.permuted_actions
        if isinstance(self.action_space, spaces.MultiBinary):  # a mask has both values of each bit
            action = values_of_bits(action)
        masks = samples.action_masks.gather(1, action.index.to(elements.device)[elements])
        return super()._replaced(samples, elements, **moved, action_masks=masks)


class SymmetryMaskableDictRolloutBuffer(  # type: ignore[misc]
    SymmetryMaskableRolloutBuffer, MaskableDictRolloutBuffer
):
    """``SymmetryMaskableRolloutBuffer`` for ``Dict`` observations; arguments and errors are the same."""
