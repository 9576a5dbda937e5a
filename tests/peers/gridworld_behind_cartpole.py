"""A pytest plugin that puts equirl's GridWorld in CartPole's place, for Gymnasium's tests of vectors and wrappers.

``gymnasium.make`` and ``make_vec`` of ``"CartPole-v1"`` make GridWorlds, single and batched; the rest of CartPole's
specification, such as its limit of 500 steps, stays. With ``PEERS_METHOD=stock`` CartPole stays, and is counted.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from recording import count_use

from equirl.envs import GridWorldEnv, GridWorldVectorEnv

_GRIDWORLD = os.environ.get("PEERS_METHOD", "stock") != "stock"


def _count(environment_class: type[Any]) -> None:
    """Let an environment class count how often it is made."""
    make = environment_class.__init__

    def counting(self: Any, *args: Any, **kwargs: Any) -> None:
        count_use()
        make(self, *args, **kwargs)

    environment_class.__init__ = counting


for _environment_class in (GridWorldEnv, GridWorldVectorEnv) if _GRIDWORLD else (CartPoleEnv, CartPoleVectorEnv):
    _count(_environment_class)
if _GRIDWORLD:
    gym.registry["CartPole-v1"] = replace(
        gym.spec("CartPole-v1"),
        entry_point="equirl.envs.gridworld:GridWorldEnv",
        vector_entry_point="equirl.envs.gridworld_vector:GridWorldVectorEnv",
    )
