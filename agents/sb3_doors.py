"""Doors into Stable-Baselines3 that it does not open itself; every trick that leans on its inside is here."""

from __future__ import annotations

import sys

from stable_baselines3.common.base_class import BaseAlgorithm

__all__ = ["calling_algorithm"]

_FRAMES = 12  # from a policy's constructor to its algorithm there are at most so many calls


def calling_algorithm(frames: int = _FRAMES) -> BaseAlgorithm | None:
    """Return the algorithm that is making, or calling, the policy that asks; ``None`` if there is none.

    SB3 hands its policies the spaces alone. What stands between environment and policy (``VecNormalize``) is known to
    the algorithm only, which is the caller.

    Args:
        frames: How many calls to look back.
    """
    frame = sys._getframe(1)
    for _ in range(frames):
        if frame.f_back is None:
            return None
        frame = frame.f_back
        owner = frame.f_locals.get("self")
        if isinstance(owner, BaseAlgorithm):
            return owner
    return None
