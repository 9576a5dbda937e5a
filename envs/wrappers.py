"""Wrappers that make a world symmetric, or look at it from another side."""

from __future__ import annotations

from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.placing import register_transparent, transform_state
from equirl.symmetry import MDPSymmetry, build_symmetry

__all__ = ["SymmetricStarts", "TransformedFrame"]

Environment = gym.Env[Any, Any]


class SymmetricStarts(gym.Wrapper[Any, Any, Any, Any]):
    """Makes the distribution of starts symmetric: a random group element moves the world at each reset.

    For worlds whose dynamics have a symmetry that their starts lack: MiniGrid's Empty, DoorKey, LavaGap, ...

    Args:
        env: An environment that can be carried to a transformed state (see ``register_placer``).
        symmetry: A registered name or an ``MDPSymmetry``.

    Raises:
        TypeError: Actions are not ``Discrete``, or (on reset) nothing tells how to carry the state.
        ValueError: Unknown symmetry, or one that does not fit the spaces.
    """

    def __init__(self, env: Environment, symmetry: str | MDPSymmetry) -> None:
        super().__init__(env)
        self.symmetry = _resolve(symmetry, env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in a transformed state; ``info["element"]`` names the group element."""
        observation, info = self.env.reset(seed=seed, options=options)
        element = int(self.env.unwrapped.np_random.integers(self.symmetry.group.order))
        info["element"] = self.symmetry.group.element_names[element]
        return transform_state(self.env, self.symmetry, element, observation), info


class TransformedFrame(gym.Wrapper[Any, Any, Any, Any]):
    """Shows the world turned by one fixed group element: observations are ``g o``, and action ``g a`` does ``a``.

    An equivariant agent does as well in every frame; any other has to learn each. For transfer tests.

    Args:
        env: An environment with array observations and ``Discrete`` actions.
        symmetry: A registered name or an ``MDPSymmetry``.
        element: Name or index of the group element.

    Raises:
        TypeError: Actions are not ``Discrete``, or observations are no array.
        ValueError: Unknown symmetry or element, or a symmetry that does not fit the spaces.
    """

    def __init__(self, env: Environment, symmetry: str | MDPSymmetry, element: str | int) -> None:
        super().__init__(env)
        self.symmetry = _resolve(symmetry, env)
        self.element = self.symmetry.group.index(element)
        # index[g, i] is the action that g carries to i
        self._action = self.symmetry.action.index[self.element].tolist()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode and return the turned observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._turned(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Undo the turn on the action, act, and return the turned observation."""
        observation, reward, terminated, truncated, info = self.env.step(self._action[int(action)])
        return self._turned(observation), reward, terminated, truncated, info

    def _turned(self, observation: NDArray[Any]) -> NDArray[Any]:
        moved = self.symmetry.observation.apply(self.element, torch.from_numpy(np.asarray(observation))[None])
        return np.asarray(cast(torch.Tensor, moved).numpy()[0], dtype=observation.dtype)


def _resolve(symmetry: str | MDPSymmetry, environment: Environment) -> MDPSymmetry:
    observation_space, action_space = environment.observation_space, environment.action_space
    if not isinstance(observation_space, spaces.Box) or not isinstance(action_space, spaces.Discrete):
        raise TypeError(f"Box observations and Discrete actions are needed; got {observation_space} and {action_space}")
    shape, n_actions = tuple(observation_space.shape), int(action_space.n)
    if isinstance(symmetry, str):
        return build_symmetry(symmetry, shape, n_actions)
    symmetry.check_fits(shape, n_actions)
    return symmetry


register_transparent(SymmetricStarts)
