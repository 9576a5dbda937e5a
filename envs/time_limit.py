"""Time limits: ends of episodes that no placed state shows, and that are symmetric because they are fixed counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from equirl.envs.placed_steps import Transition

__all__ = ["fixed_length"]

_NAMES = ("_max_episode_steps", "max_episode_steps", "max_steps", "horizon")


def fixed_length(environment: gym.Env[Any, Any], transitions: Sequence[Transition]) -> int | None:
    """Return the number of steps after which a time limit ends every episode, or ``None`` if none is in sight.

    It is the length of the longest episodes that ended, if none goes on for longer and either an attribute of the
    environment says so or several episodes have it.
    """
    ended = [t.length for t in transitions if t.outcome.ended]
    longest = max(t.length for t in transitions)
    if not ended or max(ended) < longest:
        return None
    return longest if longest in _declared(environment) or ended.count(longest) > 1 else None


def _declared(environment: Any) -> set[int]:
    found, layer = set(), environment
    while layer is not None:
        values = [vars(layer).get(name) for name in _NAMES] if hasattr(layer, "__dict__") else []
        values.append(getattr(getattr(layer, "spec", None), "max_episode_steps", None))
        found |= {int(value) for value in values if isinstance(value, int)}
        layer = getattr(layer, "env", None)
    return found
