"""Wrappers that make a world symmetric, or look at it from another side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs

from equirl.envs.chosen_action import chosen_action
from equirl.envs.observations import fit_symmetry
from equirl.envs.placing import register_transparent, transform_state
from equirl.symmetry import MDPSymmetry

__all__ = ["ShownAtStart", "SymmetricStarts", "TransformedFrame"]

Environment = gym.Env[Any, Any]


class SymmetricStarts(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
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
        RecordConstructorArgs.__init__(self, symmetry=symmetry)  # first: gymnasium.make(env.spec) reads it
        gym.Wrapper.__init__(self, env)
        self.symmetry, _ = fit_symmetry(symmetry, env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode in a transformed state; ``info["element"]`` names the group element."""
        observation, info = self.env.reset(seed=seed, options=options)
        element = int(self.env.unwrapped.np_random.integers(self.symmetry.group.order))
        info["element"] = self.symmetry.group.element_names[element]
        return transform_state(self.env, self.symmetry, element, observation), info


class TransformedFrame(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Shows the world turned by one fixed group element: observations are ``g o``, and action ``g a`` does ``a``.

    An equivariant agent does as well in every frame; any other has to learn each. For transfer tests.

    Args:
        env: An environment with ``Discrete`` actions whose observations policies take: ``Box``, ``Discrete``,
            ``MultiDiscrete``, ``MultiBinary``, or a ``Dict`` of these.
        symmetry: A registered name or an ``MDPSymmetry``.
        element: Name or index of the group element.

    Raises:
        TypeError: Actions are not ``Discrete``, or observations have no fixed shape.
        ValueError: Unknown symmetry or element, or a symmetry that does not fit the spaces.
    """

    def __init__(self, env: Environment, symmetry: str | MDPSymmetry, element: str | int) -> None:
        RecordConstructorArgs.__init__(self, symmetry=symmetry, element=element)
        gym.Wrapper.__init__(self, env)
        self.symmetry, self._layout = fit_symmetry(symmetry, env)
        self.element = self.symmetry.group.index(element)
        # index[g, i] is the action that g carries to i
        first = int(cast(spaces.Discrete, env.action_space).start)
        images = self.symmetry.permuted_actions.index[self.element].tolist()
        self._action = {first + i: first + int(image) for i, image in enumerate(images)}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode and return the turned observation."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._turned(observation), info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Undo the turn on the action, act, and return the turned observation.

        Raises:
            ValueError: ``action`` is not one of the space's.
        """
        space = cast(spaces.Discrete, self.action_space)
        chosen = chosen_action(action, int(space.n), int(space.start))
        if chosen is None:
            raise ValueError(f"action {action!r} is not in {self.action_space}")
        observation, reward, terminated, truncated, info = self.env.step(self._action[chosen])
        return self._turned(observation), reward, terminated, truncated, info

    def _turned(self, observation: Any) -> Any:
        shown = self._layout.turn_one(self.symmetry, self.element, self._layout.show(observation))
        return self._layout.hide(shown, observation)


class ShownAtStart(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Shows some channels of an image at the first step of an episode alone, so that they have to be remembered.

    Symmetries that move the cells of an image stay symmetries: ``GridWorldEnv`` with ``channels=[1]`` hides its goal.

    Args:
        env: An environment whose observations are images ``[C, H, W]``.
        channels: The channels that are zero from the second step on.

    Raises:
        ValueError: Other observations, or a channel that is not there.
    """

    def __init__(self, env: Environment, channels: Sequence[int]) -> None:
        RecordConstructorArgs.__init__(self, channels=channels)
        gym.Wrapper.__init__(self, env)
        shape = env.observation_space.shape or ()
        if len(shape) != 3 or not channels or not all(channel in range(shape[0]) for channel in channels):
            raise ValueError(
                f"channels are some of those of images [C, H, W], counted from 0; got {list(channels)} for "
                f"observations {list(shape)}"
            )
        self.channels = list(channels)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act, and return the observation without the channels."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        hidden = np.array(observation)
        hidden[self.channels] = 0
        return hidden, reward, terminated, truncated, info


register_transparent(SymmetricStarts)
