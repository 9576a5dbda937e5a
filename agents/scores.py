"""One score per action, whatever the algorithm: what an agent acts greedily on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from equirl.agents.actor_critic import EquivariantActorCriticPolicy
from equirl.representations import Tree

__all__ = ["action_scores"]


def action_scores(model: BaseAlgorithm) -> Callable[[Tree], Tensor]:
    """Return the function from observations to one score per action, ``[B, A]``: Q-values or logits.

    Raises:
        TypeError: An algorithm other than DQN, QRDQN, PPO and A2C.
    """
    policy: Any = model.policy

    def scores(observations: Tree) -> Tensor:
        with torch.no_grad():
            if hasattr(policy, "q_net"):
                return cast(Tensor, policy.q_net(observations))
            if hasattr(policy, "quantile_net"):
                return cast(Tensor, policy.quantile_net(observations).mean(dim=1))
            if isinstance(policy, EquivariantActorCriticPolicy):
                return policy.logits(cast(Any, observations))
            return cast(Tensor, policy.get_distribution(observations).distribution.logits)

    if not (hasattr(policy, "q_net") or hasattr(policy, "quantile_net") or isinstance(policy, ActorCriticPolicy)):
        raise TypeError(f"{type(model).__name__} gives no scores for actions; audit DQN, QRDQN, PPO or A2C")
    return scores
