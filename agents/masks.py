"""Masks of legal actions, for agents that take them (sb3-contrib's MaskablePPO)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

__all__ = ["know_maskable_ppo", "legal_actions", "predict_legal", "takes_masks"]


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


@contextmanager
def legal_actions(*scripts: Any) -> Iterator[None]:
    """Let a MaskablePPO agent that scripts of rl_zoo3 load ask their environment which actions are legal.

    Args:
        *scripts: Their modules, and ``rl_zoo3.utils`` where a script is yet to be imported.
    """
    from rl_zoo3.utils import ALGOS  # slow, so only when it is needed
    from sb3_contrib import MaskablePPO

    made: list[VecEnv] = []

    class Legal(MaskablePPO):
        def predict(
            self,
            observation: Any,
            state: Any = None,
            episode_start: Any = None,
            deterministic: bool = False,
            action_masks: Any = None,
        ) -> Any:
            if action_masks is None and made and is_masking_supported(made[-1]):
                action_masks = get_action_masks(made[-1])
            return super().predict(observation, state, episode_start, deterministic, action_masks)

    algorithms: dict[str, Any] = ALGOS
    known, originals = algorithms.get("ppo_mask"), [script.create_test_env for script in scripts]

    def noted(*args: Any, **kwargs: Any) -> VecEnv:
        environments: VecEnv = originals[0](*args, **kwargs)
        made.append(environments)
        return environments

    algorithms["ppo_mask"] = Legal
    for script in scripts:
        script.create_test_env = noted
    try:
        yield
    finally:
        for script, original in zip(scripts, originals, strict=True):
            script.create_test_env = original
        algorithms.pop("ppo_mask")
        if known is not None:
            algorithms["ppo_mask"] = known
