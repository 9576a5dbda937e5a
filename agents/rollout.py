"""Symmetry augmentation of on-policy rollouts: the baseline for PPO and A2C that the replay buffer is for DQN."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples

from equirl.agents.replay import action_images, moved_rows
from equirl.agents.spaces import resolve_symmetry, symmetry_on
from equirl.symmetry import MDPSymmetry

__all__ = ["SymmetryRolloutBuffer"]


class SymmetryRolloutBuffer(RolloutBuffer):
    """A rollout buffer that hands out each sample under a random group element: ``(gs, ga)`` instead of ``(s, a)``.

    ``PPO("MlpPolicy", env, rollout_buffer_class=SymmetryRolloutBuffer,
    rollout_buffer_kwargs=dict(symmetry="grid-d4"))``; from a YAML file for ``equirl train`` as
    ``equirl.agents.SymmetryRolloutBuffer``. Advantages, returns and old values stay. So does the old
    log-probability, which belongs to ``(s, a)``: PPO's ratio is off where the policy is not symmetric yet, the known
    bias of this baseline (Raileanu et al. 2020, arXiv:2006.12862). Symmetrized policies have none.

    Args:
        buffer_size: Steps of each environment that it holds.
        observation_space: Array observations.
        action_space: ``Discrete``.
        *args: As for SB3's ``RolloutBuffer``.
        symmetry: A registered name or an ``MDPSymmetry``.
        **kwargs: As for SB3's ``RolloutBuffer``.

    Raises:
        TypeError: Dict observations, or actions that are not ``Discrete``.
        ValueError: Unknown symmetry, or one that does not fit the spaces.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *args: Any,
        symmetry: str | MDPSymmetry,
        **kwargs: Any,
    ) -> None:
        if isinstance(observation_space, spaces.Dict):
            raise TypeError("SymmetryRolloutBuffer stores array observations; flatten the Dict observations first")
        super().__init__(buffer_size, observation_space, action_space, *args, **kwargs)
        resolved = resolve_symmetry(symmetry, self.observation_space, self.action_space)
        self.symmetry = symmetry_on(resolved, self.device)
        self._action_image = action_images(self.symmetry)

    def get(self, batch_size: int | None = None) -> Generator[RolloutBufferSamples, None, None]:
        """Yield the samples in random order, each transformed by a random group element."""
        order = self.symmetry.group.order
        for samples in super().get(batch_size):
            elements = torch.randint(order, (len(samples.observations),), device=self.device)
            images = self._action_image[elements].gather(1, samples.actions.long())
            yield samples._replace(
                observations=moved_rows(self.symmetry, elements, samples.observations, self.observation_space),
                actions=images.to(samples.actions.dtype),
            )
