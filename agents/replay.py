"""Symmetry augmentation of the replay buffer: the baseline that shows an agent other orientations of what it saw."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from equirl.agents.spaces import resolve_symmetry, symmetry_on
from equirl.names import unknown_name_message
from equirl.symmetry import MDPSymmetry

__all__ = ["Copies", "SymmetryReplayBuffer", "action_images"]

Copies = Literal["random", "all"]


class SymmetryReplayBuffer(ReplayBuffer):
    """A replay buffer that hands out transformed transitions ``(gs, ga, r, gs')`` instead of ``(s, a, r, s')``.

    They are as real as the stored ones where the world has the symmetry. For any SB3 algorithm with a replay buffer and
    ``Discrete`` actions: ``DQN("MlpPolicy", env, replay_buffer_class=SymmetryReplayBuffer,
    replay_buffer_kwargs=dict(symmetry="grid-d4"))``; in a YAML file for ``equirl train``
    ``replay_buffer_class: equirl.agents.SymmetryReplayBuffer``.

    Args:
        *args: As for SB3's ``ReplayBuffer``.
        symmetry: A registered name or an ``MDPSymmetry``.
        copies: ``"random"``: one random element for each sampled transition. ``"all"``: every sampled transition under
            every element, so that a batch has ``|G|`` times as many rows, ``[B |G|, ...]``.
        **kwargs: As for SB3's ``ReplayBuffer``.

    Raises:
        TypeError: Dict observations, or actions that are not ``Discrete``.
        ValueError: Unknown symmetry or ``copies``, or a symmetry that does not fit the spaces.
    """

    def __init__(self, *args: Any, symmetry: str | MDPSymmetry, copies: Copies = "random", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if copies not in get_args(Copies):
            raise ValueError(unknown_name_message("copies", copies, get_args(Copies)))
        if isinstance(self.observation_space, spaces.Dict):
            raise TypeError("SymmetryReplayBuffer stores array observations; flatten the Dict observations first")
        resolved = resolve_symmetry(symmetry, self.observation_space, self.action_space)
        self.symmetry = symmetry_on(resolved, self.device)
        self.copies = copies
        self._action_image = action_images(self.symmetry)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Return transformed transitions, ``batch_size`` of them, or ``batch_size * |G|`` with ``copies="all"``."""
        samples = super().sample(batch_size, env=env)
        order = self.symmetry.group.order
        if self.copies == "all":
            samples = ReplayBufferSamples(*(_repeated(field, order) for field in samples))
            elements = torch.arange(order, device=self.device).repeat(batch_size)
        else:
            elements = torch.randint(order, (batch_size,), device=self.device)
        return samples._replace(
            observations=moved_rows(self.symmetry, elements, samples.observations, self.observation_space),
            next_observations=moved_rows(self.symmetry, elements, samples.next_observations, self.observation_space),
            actions=self._action_image[elements].gather(1, samples.actions.long()),
        )


def moved_rows(symmetry: MDPSymmetry, elements: Tensor, rows: Tensor, space: spaces.Space[Any]) -> Tensor:
    """Return stored observations ``[B, *stored]``, each moved by an element of its own."""
    shaped = rows.reshape(len(rows), *(space.shape or ()))  # Discrete ones are stored as [B, 1], perhaps as floats
    if isinstance(space, spaces.Discrete):
        shaped = shaped.long()
    return cast(Tensor, symmetry.observation.apply(elements, shaped)).reshape(rows.shape).to(rows.dtype)


def action_images(symmetry: MDPSymmetry) -> Tensor:
    """Return what each element makes of each action, ``g a``: integers ``[|G|, A]``."""
    # index[g] reads where action i of g q comes from; g carries action a to the place that reads from a
    return symmetry.action.index.argsort(dim=1)


def _repeated(field: Tensor | None, order: int) -> Any:
    return None if field is None else field.repeat_interleave(order, dim=0)
