"""Masks of legal actions, for agents that take them (sb3-contrib's MaskablePPO)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

__all__ = ["know_maskable_ppo", "predict_legal", "takes_masks"]


def takes_masks(model: BaseAlgorithm, environments: VecEnv) -> bool:
    """Return whether an agent takes masks and these environments give some (``action_masks()``)."""
    return isinstance(model.policy, MaskableActorCriticPolicy) and is_masking_supported(environments)


def predict_legal(
    model: Any,
    observation: Any,
    environments: VecEnv,
    deterministic: bool,
    state: Any = None,
    starts: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[Any], Any]:
    """Return an agent's actions ``[B, *action]``, legal ones where there are masks, and its next state.

    Args:
        model: The agent.
        observation: What it sees.
        environments: Where it acts.
        deterministic: Whether it acts greedily.
        state: The state of a recurrent agent.
        starts: Where episodes start, ``[B]``.
    """
    masks = {"action_masks": get_action_masks(environments)} if takes_masks(model, environments) else {}
    actions, after = model.predict(observation, state, starts, deterministic=deterministic, **masks)
    return np.asarray(actions), after


def know_maskable_ppo() -> None:
    """Let rl_zoo3 know MaskablePPO by the name ``ppo_mask``: its list of algorithms lacks it."""
    from rl_zoo3.utils import ALGOS  # slow, so only when it is needed
    from sb3_contrib import MaskablePPO

    algorithms: dict[str, Any] = ALGOS
    algorithms.setdefault("ppo_mask", MaskablePPO)
