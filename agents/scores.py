"""One score per action, whatever the algorithm: what an agent acts greedily on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.agents.observations import as_tensors
from equirl.representations import Tree, map_tensors
from equirl.testing import evaluation_mode

__all__ = ["Scores", "action_scores", "before_normalization"]

Scores = Callable[[Tree], Tensor]
"""A function from observations ``[B, *observation]`` to one score per action, ``[B, A]``."""


def action_scores(model: BaseAlgorithm) -> Scores:
    """Return the function from observations to one score per action, ``[B, A]``: Q-values or logits.

    It takes observations as the agent sees them, tensors or arrays on any device. The policy is in evaluation mode
    while it runs, and in the mode of before afterwards.

    Raises:
        TypeError: An algorithm other than DQN, QRDQN, PPO, A2C and MaskablePPO, or actions that are not ``Discrete``.
    """
    policy: Any = model.policy

    def of_tensors(observations: Tree) -> Tensor:
        if hasattr(policy, "q_net"):
            return cast(Tensor, policy.q_net(observations))
        if hasattr(policy, "quantile_net"):
            return cast(Tensor, policy.quantile_net(observations).mean(dim=1))
        if isinstance(policy, ActorCriticOrbit):
            return policy.action_parameters(cast(Any, observations))
        return cast(Tensor, policy.get_distribution(observations).distribution.logits)

    def scores(observations: Tree) -> Tensor:
        with torch.no_grad(), evaluation_mode(policy):
            return of_tensors(map_tensors(as_tensors(observations), lambda values: values.to(model.device)))

    actor_critic = isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy))
    known = hasattr(policy, "q_net") or hasattr(policy, "quantile_net") or actor_critic
    if not known or not isinstance(model.action_space, spaces.Discrete):
        raise TypeError(
            f"{type(model).__name__} in {model.action_space} gives no scores for actions; DQN, QRDQN, PPO, A2C and "
            "MaskablePPO with Discrete actions do"
        )
    return scores


def before_normalization(scores: Scores, observations: Tree, normalize: VecNormalize | None) -> tuple[Scores, Tree]:
    """Return scores and observations as they are before ``VecNormalize``, where the symmetry of the world acts.

    An equivariant network behind statistics that are not symmetric is no equivariant agent; measured here, it shows.

    Args:
        scores: A function of the normalised observations.
        observations: Normalised observations, ``[B, *observation]``.
        normalize: The wrapper that normalised them. ``None`` changes nothing, nor does one that leaves observations
            alone, or one whose frames were stacked afterwards.
    """
    if normalize is None or not normalize.norm_obs or not _fits(normalize.obs_rms, observations):
        return scores, observations
    raw = normalize.unnormalize_obs(cast(Any, _as_arrays(observations)))
    device = next(iter(observations.values())).device if isinstance(observations, dict) else observations.device

    def of_raw(rows: Tree) -> Tensor:
        return scores(as_tensors(normalize.normalize_obs(cast(Any, _as_arrays(rows)))))

    return of_raw, map_tensors(as_tensors(raw), lambda values: values.to(device))


def _fits(statistics: Any, observations: Tree) -> bool:
    if isinstance(statistics, dict):
        return isinstance(observations, dict) and all(_fits(statistics[key], observations[key]) for key in statistics)
    return isinstance(observations, Tensor) and tuple(statistics.mean.shape) == tuple(observations.shape[1:])


def _as_arrays(observations: Tree) -> Any:
    if isinstance(observations, Tensor):
        return observations.cpu().numpy()
    return {key: _as_arrays(part) for key, part in observations.items()}
