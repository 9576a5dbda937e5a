"""What an agent acts greedily on, whatever the algorithm: a score per action, or the numbers of the best action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn
from torch.distributions import Normal

from equirl.agents.actor_critic_network import ActorCriticOrbit
from equirl.agents.observations import as_tensors
from equirl.agents.visited_states import n_rows, rows_of
from equirl.representations import Tree, map_tensors
from equirl.testing import evaluation_mode

__all__ = ["Scores", "action_function", "action_scores", "before_normalization", "history_scores"]

Scores = Callable[[Tree], Tensor]
"""A function from observations ``[B, *observation]`` to what moves as actions do, ``[B, A]``."""


def action_scores(model: BaseAlgorithm) -> Scores:
    """Return the function from observations to what the agent acts greedily on, ``[B, A]``; it moves as actions do.

    Q-values or logits of ``Discrete`` actions, the logits of all components of ``MultiDiscrete``, the log-odds of the
    bits of ``MultiBinary``, the mean of ``Box`` (scaled to [-1, 1] where the algorithm squashes its actions).

    It takes observations as the agent sees them, tensors or arrays on any device. The policy is in evaluation mode
    while it runs, and in the mode of before afterwards. Recurrent agents act as at the first step of an episode; see
    ``history_scores`` for later steps.

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
        squash = getattr(actor, "squash", torch.tanh)
        return lambda observations: cast(Tensor, squash(actor.get_action_dist_params(observations)[0]))
    if isinstance(actor, nn.Module):
        return cast(Scores, actor)
    if isinstance(policy, RecurrentActorCriticPolicy):
        return lambda rows: _of_sequences(policy, rows, torch.ones(n_rows(rows), 1, device=model.device))
    if isinstance(policy, ActorCriticOrbit) and not isinstance(policy, MaskableActorCriticPolicy):
        return cast(Scores, policy.action_parameters)
    if isinstance(policy, (ActorCriticPolicy, MaskableActorCriticPolicy)):
        return lambda observations: _parameters(policy.get_distribution(observations), policy.action_space)
    raise TypeError(
        f"{type(model).__name__} with {type(policy).__name__} gives no scores or numbers of actions; SB3's and "
        "sb3-contrib's own policies do"
    )


def _parameters(distribution: Any, space: spaces.Space[Any]) -> Tensor:
    """Return logits, log-odds or means of SB3's distributions, ``[B, A]``."""
    parts = getattr(distribution, "distributions", None) or distribution.distribution
    if isinstance(parts, list):  # one for each component of MultiDiscrete; with masks, one for each bit
        logits = torch.cat([each.logits for each in parts], dim=1)
        return logits[:, 1::2] - logits[:, ::2] if isinstance(space, spaces.MultiBinary) else logits
    return cast(Tensor, parts.mean if isinstance(parts, Normal) else parts.logits)


def history_scores(model: BaseAlgorithm, starts: NDArray[np.bool_]) -> Scores:
    """Return the function from the observations of whole rollouts to scores, ``[N, *observation] -> [N, A]``.

    A recurrent agent remembers its episode; for other agents these are the scores of ``action_scores``.

    Args:
        model: The agent.
        starts: Where episodes start, ``[T, n_envs]``, as ``rollout_histories`` returns it. Observations come in the
            same order, and the last of them may be missing.

    Raises:
        TypeError: As for ``action_scores``.
    """
    single = action_scores(model)
    policy: Any = model.policy
    if not isinstance(policy, RecurrentActorCriticPolicy):
        return single
    length, n_envs = starts.shape
    begins = torch.as_tensor(starts, dtype=torch.float32, device=model.device).T.contiguous()
    place = torch.arange(length * n_envs, device=model.device)
    by_environment = place.view(length, n_envs).T.flatten()
    by_step = place.view(n_envs, length).T.flatten()

    def scores(observations: Tree) -> Tensor:
        observations = map_tensors(as_tensors(observations), lambda values: values.to(model.device))
        n = n_rows(observations)
        sequences = rows_of(observations, by_environment.clamp(max=n - 1))
        with torch.no_grad(), evaluation_mode(policy):
            return _of_sequences(policy, sequences, begins)[by_step[:n]]

    return scores


def _of_sequences(policy: RecurrentActorCriticPolicy, rows: Tree, starts: Tensor) -> Tensor:
    """Return logits, log-odds or means ``[B T, A]`` of ``B`` sequences, one after another, with starts ``[B, T]``."""
    layers, _, size = policy.lstm_hidden_state_shape
    zeros = torch.zeros(layers, len(starts), size, device=starts.device)
    made: Any = policy.get_distribution(cast(Any, rows), (zeros, zeros), starts.flatten())[0]
    return _parameters(made, policy.action_space)


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
