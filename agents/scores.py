"""What an agent acts greedily on, whatever the algorithm: a score per action, or the numbers of the best action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn
from torch.distributions import Normal

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.agents.observations import as_tensors
from equirl.representations import Tree, map_tensors
from equirl.testing import evaluation_mode

__all__ = ["Scores", "action_function", "action_scores", "before_normalization"]

Scores = Callable[[Tree], Tensor]
"""A function from observations ``[B, *observation]`` to what moves as actions do, ``[B, A]``."""


def action_scores(model: BaseAlgorithm) -> Scores:
    """Return the function from observations to what the agent acts greedily on, ``[B, A]``; it moves as actions do.

    Q-values or logits of ``Discrete`` actions, the logits of all components of ``MultiDiscrete``, the log-odds of the
    bits of ``MultiBinary``, the mean of ``Box`` (scaled to [-1, 1] where the algorithm squashes its actions).

    It takes observations as the agent sees them, tensors or arrays on any device. The policy is in evaluation mode
    while it runs, and in the mode of before afterwards.

    Raises:
        TypeError: A policy that has none of these, or whose actions hang on more than the observation.
    """
    parameters = action_function(model)

    def scores(observations: Tree) -> Tensor:
        with torch.no_grad(), evaluation_mode(model.policy):
            return parameters(map_tensors(as_tensors(observations), lambda values: values.to(model.device)))

    return scores


def action_function(model: BaseAlgorithm) -> Scores:
    """Return the same function on tensors of the agent's device, with gradients, in the mode the policy is in.

    Raises:
        TypeError: As ``action_scores``.
    """
    policy: Any = model.policy
    if hasattr(policy, "q_net"):
        return cast(Scores, policy.q_net)
    if hasattr(policy, "quantile_net"):
        return lambda observations: cast(Tensor, policy.quantile_net(observations).mean(dim=1))
    actor = getattr(policy, "actor", None)
    if actor is not None and hasattr(actor, "get_action_dist_params"):
        return lambda observations: cast(Tensor, actor.get_action_dist_params(observations)[0].tanh())
    if isinstance(actor, nn.Module):
        return cast(Scores, actor)
    recurrent = hasattr(policy, "lstm_actor")
    if isinstance(policy, ActorCriticOrbit) and not isinstance(policy, MaskableActorCriticPolicy) and not recurrent:
        return cast(Scores, policy.action_parameters)
    if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)) and not recurrent:
        return lambda observations: _parameters(policy.get_distribution(observations), policy.action_space)
    raise TypeError(
        f"{type(model).__name__} with {type(policy).__name__} gives no scores or numbers of actions for an observation "
        "alone; the algorithms with an equivariant policy do, but for recurrent ones"
    )


def _parameters(distribution: Any, space: spaces.Space[Any]) -> Tensor:
    """Return logits, log-odds or means of SB3's distributions, ``[B, A]``."""
    parts = getattr(distribution, "distributions", None) or distribution.distribution
    if isinstance(parts, list):  # one for each component of MultiDiscrete; with masks, one for each bit
        logits = torch.cat([each.logits for each in parts], dim=1)
        return logits[:, 1::2] - logits[:, ::2] if isinstance(space, spaces.MultiBinary) else logits
    return cast(Tensor, parts.mean if isinstance(parts, Normal) else parts.logits)


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
