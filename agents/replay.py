"""Symmetry augmentation of the replay buffer: the baseline that shows an agent other orientations of what it saw."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN, TQC, CrossQ
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from equirl.agents.observations import as_tensors
from equirl.agents.sb3_doors import calling_algorithm
from equirl.agents.symmetry_buffer import SymmetryBuffer
from equirl.arguments import real_number, whole_number
from equirl.names import unknown_name_message
from equirl.representations import Tree, map_tensors

__all__ = [
    "Copies",
    "SymmetryDictReplayBuffer",
    "SymmetryHerReplayBuffer",
    "SymmetryNStepReplayBuffer",
    "SymmetryReplayBuffer",
]

Copies = Literal["random", "all"]

_BY_BATCH_SIZE = (QRDQN, TQC, CrossQ)  # they shape their networks' outputs by it


class SymmetryReplayBuffer(SymmetryBuffer, ReplayBuffer):
    """A replay buffer that hands out transformed transitions ``(gs, ga, r, gs')`` instead of ``(s, a, r, s')``.

    They are as real as the stored ones where the world has the symmetry. For any SB3 algorithm with a replay buffer:
    ``DQN("MlpPolicy", env, replay_buffer_class=SymmetryReplayBuffer,
    replay_buffer_kwargs=dict(symmetry="grid-d4"))``; in a YAML file for ``equirl train``
    ``replay_buffer_class: equirl.agents.SymmetryReplayBuffer``.

    Calling the class gives a subclass of it for ``Dict`` observations and for ``n_steps``. With ``VecNormalize`` the
    group acts on the environment's own observations, and the result is normalised.

    Args:
        buffer_size: Transitions that it holds.
        observation_space: As for SB3's ``ReplayBuffer``.
        action_space: ``Discrete`` or ``Box``.
        *args: As for SB3's ``ReplayBuffer``.
        symmetry: A registered name or an ``MDPSymmetry``.
        copies: ``"random"``: one random element for each sampled transition. ``"all"``: every sampled transition under
            every element, so that a batch has ``|G|`` times as many rows, ``[B |G|, ...]``; not for QR-DQN, TQC and
            CrossQ, which count on ``B`` rows.
        **kwargs: As for SB3's ``ReplayBuffer``; ``n_steps`` and ``gamma`` as for its ``NStepReplayBuffer``.

    Raises:
        TypeError: Actions of another space, or a number that is none.
        ValueError: Unknown symmetry or ``copies``, ``copies`` that the algorithm cannot take, a symmetry that does not
            fit the spaces, or ``n_steps`` or ``optimize_memory_usage`` where SB3 has neither.
    """

    def __init__(self, *args: Any, copies: Copies = "random", **kwargs: Any) -> None:
        if copies not in get_args(Copies):
            raise ValueError(unknown_name_message("copies", copies, get_args(Copies)))
        agent = calling_algorithm()
        if copies == "all" and isinstance(agent, _BY_BATCH_SIZE):
            raise ValueError(
                "copies='all' makes a batch of |G| times as many rows, and "
                f"{type(agent).__name__} counts on batch_size rows: take copies='random'"
            )
        super().__init__(*args, **kwargs)
        self.copies = copies

    @classmethod
    def _class_for(cls, dict_observations: bool, settings: dict[str, Any]) -> type[Any]:
        if cls is SymmetryReplayBuffer and dict_observations:
            return SymmetryDictReplayBuffer
        return SymmetryNStepReplayBuffer if cls is SymmetryReplayBuffer and "n_steps" in settings else cls

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Return transformed transitions, ``batch_size`` of them, or ``batch_size * |G|`` with ``copies="all"``."""
        # The group acts on what the environment gave; normalised observations have lost the symmetry.
        rewards_only = None if env is None else cast(VecNormalize, _RewardsOnly(env))
        samples: Any = super().sample(batch_size, env=rewards_only)
        order = self.symmetry.group.order
        if self.copies == "all":
            samples = type(samples)(*(_repeated(field, order) for field in samples))
            elements = torch.arange(order, device=self.device).repeat(batch_size)
        else:
            elements = torch.randint(order, (batch_size,), device=self.device)
        before, after = (
            self._normalized(self._moved(elements, rows), env)
            for rows in (samples.observations, samples.next_observations)
        )
        actions = self._moved_actions(elements, samples.actions)
        moved: ReplayBufferSamples = samples._replace(observations=before, next_observations=after, actions=actions)
        return moved

    def _normalized(self, rows: Tree, env: VecNormalize | None) -> Tree:
        if env is None or not env.norm_obs:
            return rows
        given: Any = map_tensors(rows, lambda values: values.cpu())
        arrays = {key: part.numpy() for key, part in given.items()} if isinstance(given, dict) else given.numpy()
        return map_tensors(as_tensors(env.normalize_obs(arrays)), lambda values: values.to(self.device))


class SymmetryDictReplayBuffer(SymmetryReplayBuffer, DictReplayBuffer):  # type: ignore[misc]  # as SB3's own is
    """``SymmetryReplayBuffer`` for ``Dict`` observations; arguments and errors are the same."""

    def _check_settings(self, settings: dict[str, Any]) -> None:
        if "n_steps" in settings:
            raise ValueError("SB3 has no n-step replay buffer for Dict observations; leave n_steps out")
        if settings.get("optimize_memory_usage"):
            raise ValueError(
                "SB3 has no optimize_memory_usage for Dict observations; set optimize_memory_usage=False, or flatten "
                "the observations"
            )


class SymmetryHerReplayBuffer(SymmetryReplayBuffer, HerReplayBuffer):  # type: ignore[misc]  # as SB3's own is
    """``SymmetryReplayBuffer`` with hindsight goals (Andrychowicz et al. 2017, arXiv:1707.01495).

    ``SAC("MultiInputPolicy", env, replay_buffer_class=SymmetryHerReplayBuffer,
    replay_buffer_kwargs=dict(symmetry=..., n_sampled_goal=4))``. Goals are put in, and rewards computed, as the
    environment has them; the group then moves observation, achieved and desired goal, and action together. Further
    arguments are those of SB3's ``HerReplayBuffer``.
    """


class SymmetryNStepReplayBuffer(SymmetryReplayBuffer, NStepReplayBuffer):
    """``SymmetryReplayBuffer`` with n-step returns; arguments and errors are the same."""

    def _check_settings(self, settings: dict[str, Any]) -> None:
        settings["n_steps"] = whole_number(settings.get("n_steps", 3), "n_steps", 1)
        real_number(settings.get("gamma", 0.99), "gamma", least=0, most=1)
        if settings.get("optimize_memory_usage"):
            raise ValueError("SB3 has no optimize_memory_usage with n_steps; leave one of them out")


class _RewardsOnly:
    """A ``VecNormalize`` for SB3's buffers that leaves observations alone."""

    def __init__(self, normalize: VecNormalize) -> None:
        self._normalize = normalize

    def normalize_obs(self, observations: Any) -> Any:
        return observations

    def normalize_reward(self, rewards: NDArray[np.float32]) -> NDArray[np.float32]:
        return cast("NDArray[np.float32]", self._normalize.normalize_reward(rewards))


def _repeated(field: Any, order: int) -> Any:
    if field is None:
        return None
    return map_tensors(field, lambda values: values.repeat_interleave(order, dim=0))
