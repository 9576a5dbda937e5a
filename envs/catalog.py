"""Which environments declare which symmetries."""

from __future__ import annotations

import gymnasium as gym

from equirl.envs.gridworld import GridWorldEnv

__all__ = ["DECLARED_SYMMETRIES", "register_environments"]

DECLARED_SYMMETRIES: dict[str, tuple[str, ...]] = {
    "equirl/GridWorld-v0": GridWorldEnv.symmetry_names,
    "CartPole-v1": ("cartpole-z2",),
    "Acrobot-v1": ("acrobot-z2",),
}
"""Environment id to the names of its symmetries, the largest first; ``check_symmetry`` passes on all of them."""


def register_environments() -> None:
    """Register equirl's environments with Gymnasium; safe to call twice."""
    if "equirl/GridWorld-v0" not in gym.registry:
        gym.register("equirl/GridWorld-v0", entry_point="equirl.envs.gridworld:GridWorldEnv")
