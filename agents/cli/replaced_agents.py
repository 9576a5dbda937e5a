"""Scripts of rl_zoo3 that load an agent, or make its environment, in another way than their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv

__all__ = ["agents_replaced", "legal_actions"]


@contextmanager
def agents_replaced(
    scripts: Sequence[Any], algorithm: str, agent_class: Any, make: Callable[..., VecEnv]
) -> Iterator[None]:
    """Let scripts that run in a block use another class for an algorithm, and another function for environments.

    Args:
        scripts: Their modules, and ``rl_zoo3.utils`` where a script is yet to be imported.
        algorithm: By rl_zoo3's name.
        agent_class: The class; its ``load`` is called.
        make: Makes the environments. It takes the scripts' own function, then the arguments of that.
    """
    from rl_zoo3.utils import ALGOS  # slow, so only when it is needed

    algorithms: dict[str, Any] = ALGOS
    known, originals = algorithms.get(algorithm), [script.create_test_env for script in scripts]
    algorithms[algorithm] = agent_class
    for script in scripts:
        script.create_test_env = partial(make, originals[0])
    try:
        yield
    finally:
        for script, original in zip(scripts, originals, strict=True):
            script.create_test_env = original
        algorithms.pop(algorithm)
        if known is not None:
            algorithms[algorithm] = known


@contextmanager
def legal_actions(*scripts: Any) -> Iterator[None]:
    """Let a MaskablePPO agent that scripts of rl_zoo3 load ask their environment which actions are legal.

    Args:
        *scripts: Their modules, and ``rl_zoo3.utils`` where a script is yet to be imported.
    """
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

    def noted(own: Callable[..., VecEnv], *args: Any, **kwargs: Any) -> VecEnv:
        made.append(own(*args, **kwargs))
        return made[-1]

    with agents_replaced(scripts, "ppo_mask", Legal, noted):
        yield
