"""Two ways to look at a MiniGrid world that carry its symmetry: from above, and through the agent's eyes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, SupportsFloat, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, RecordEpisodeStatistics, TimeLimit
from minigrid.core.world_object import WorldObj
from minigrid.minigrid_env import MiniGridEnv
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.chosen_action import chosen_action
from equirl.envs.grid_planes import (
    CARRIED_PLANES,
    CELL_PLANES,
    FACING_PLANES,
    MISSION_PLANES,
    CellPlanes,
    mission_marks,
)
from equirl.envs.minigrid_state import facing, transform_minigrid
from equirl.symmetry import MDPSymmetry

__all__ = ["EgocentricView", "FullGridView", "GridView"]

Planes = NDArray[np.uint8]

# Wrappers that hand on what MiniGrid observes.
_TRANSPARENT: tuple[type[Any], ...] = (
    OrderEnforcing,
    PassiveEnvChecker,
    RecordEpisodeStatistics,
    TimeLimit,
    gym.RewardWrapper,
)


class GridView(gym.Wrapper[Planes, Any, Any, Any], RecordConstructorArgs):
    """Base of both views: a one-hot image ``[C, H, W]``, uint8, and the first ``n_actions`` of MiniGrid's actions.

    ``info["is_success"]`` tells at the end of an episode whether the task was solved.

    Args:
        env: A MiniGrid environment. It may be in wrappers that leave observations and actions as they are.
        planes: The planes, by name, of those that the view offers; ``None``: all but the mission's.
        mission: Whether to add planes for what the mission names (needed where it changes from episode to episode:
            Fetch, GoToObject, GoToDoor).
        n_actions: How many of left, right, forward, pickup, drop, toggle, done to offer, from the first on; all that
            the environment has by default.

    Raises:
        TypeError: The environment is not a MiniGrid one, its actions are not ``Discrete``, or an argument is of another
            kind.
        ValueError: An unknown or repeated plane, ``n_actions`` below 3 or above what there is, or an environment that
            is inside a wrapper which changes observations or actions.
    """

    always: tuple[str, ...] = ()
    offered: tuple[str, ...] = ()

    def __init__(
        self,
        env: gym.Env[Any, Any],
        planes: Sequence[str] | None = None,
        mission: bool = False,
        n_actions: int | None = None,
    ) -> None:
        # First: gymnasium.make(env.spec) reads it.
        if not (planes is None or isinstance(planes, Iterable)) or isinstance(planes, bytes):
            raise TypeError(f"planes is a list of names, such as ['wall', 'goal']; got {planes!r}")
        kept = planes if planes is None or isinstance(planes, str) else list(planes)
        RecordConstructorArgs.__init__(self, planes=kept, mission=mission, n_actions=n_actions)
        self.settings = {"planes": kept, "mission": mission, "n_actions": n_actions}
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, MiniGridEnv):
            raise TypeError(
                f"{type(self).__name__} is for MiniGrid environments; got {type(env.unwrapped).__name__}. "
                "Make one with gymnasium.make('MiniGrid-...')"
            )
        self._direct = _is_direct(env, type(self).__name__)
        if not isinstance(env.action_space, spaces.Discrete):
            raise TypeError(f"{type(self).__name__} offers MiniGrid's Discrete actions; got {env.action_space}")
        if not isinstance(mission, (bool, np.bool_)):
            raise TypeError(f"mission is True or False; got {mission!r}")
        available = int(env.action_space.n)
        n_actions = available if n_actions is None else whole_number(n_actions, "n_actions", -(2**31))
        if not 3 <= n_actions <= available:
            raise ValueError(f"n_actions is 3 (left, right, forward) to {available} (all there are), not {n_actions}")
        if isinstance(kept, list) and not kept:
            raise ValueError(f"planes is empty; name some of those that the view offers: {', '.join(self.offered)}")
        if isinstance(planes, str):
            raise TypeError(f"planes is a list of names; got the text {planes!r}. Write planes=[{planes!r}]")
        chosen = tuple(self.offered if planes is None else planes)
        for i, name in enumerate(chosen):
            if name not in self.offered:
                raise ValueError(f"{type(self).__name__} has no plane {name!r}; it offers {', '.join(self.offered)}")
            if name in chosen[:i]:
                raise ValueError(f"plane {name!r} is named twice; name each once")
        self._cell_planes = CellPlanes([name for name in chosen if name not in CARRIED_PLANES])
        self._carried = [CARRIED_PLANES.index(name) for name in chosen if name in CARRIED_PLANES]
        self._mission = mission
        self.plane_names = (
            *self.always,
            *self._cell_planes.names,
            *(CARRIED_PLANES[i] for i in self._carried),
            *(MISSION_PLANES if mission else ()),
        )
        self.observation_space = spaces.Box(0, 1, (len(self.plane_names), *self._extent()), dtype=np.uint8)
        self.action_space = spaces.Discrete(n_actions)

    @property
    def world(self) -> MiniGridEnv:
        """The MiniGrid environment inside."""
        return cast(MiniGridEnv, self.env.unwrapped)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Planes, dict[str, Any]]:
        """Start an episode; return the planes and MiniGrid's info."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(self._world_shows(observation)), info

    def step(self, action: Any) -> tuple[Planes, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act, and return planes, reward, terminated, truncated and info (with ``is_success`` at the end).

        Raises:
            ValueError: ``action`` is not one of the ``n_actions``.
        """
        n_actions = int(cast(spaces.Discrete, self.action_space).n)
        chosen = chosen_action(action, n_actions)
        if chosen is None:
            raise ValueError(f"action {action!r} is not in 0 .. {n_actions - 1}")
        observation, reward, terminated, truncated, info = self.env.step(chosen)
        if terminated or truncated:
            info["is_success"] = bool(terminated and float(reward) > 0)
        return self._observe(self._world_shows(observation)), reward, terminated, truncated, info

    def transform_state(self, symmetry: MDPSymmetry, element: int) -> Planes:
        """Carry the world from its state ``s`` to ``gs`` and return the observation there."""
        transform_minigrid(self.world, symmetry.group, element)
        return self._observe(self.world.gen_obs())  # type: ignore[no-untyped-call]

    def _world_shows(self, observation: Any) -> dict[str, Any]:
        """Return what MiniGrid itself observes: ``observation``, if no wrapper may have changed it."""
        return cast(dict[str, Any], observation if self._direct else self.world.gen_obs())  # type: ignore[no-untyped-call]

    def _observe(self, observation: dict[str, Any]) -> Planes:
        parts = self._parts(observation)
        if self._mission:
            marks = mission_marks(observation["mission"])
            parts.append(np.broadcast_to(marks[:, None, None], (len(marks), *self._extent())))
        return np.concatenate(parts)

    @abstractmethod
    def _extent(self) -> tuple[int, int]:
        """Return height and width of the view."""

    @abstractmethod
    def _parts(self, observation: dict[str, Any]) -> list[Planes]:
        """Return the planes but the mission's, in order."""


class FullGridView(GridView):
    """The whole grid from above, symmetric under all turns and mirrors of the square (``"minigrid-d4"``).

    **Observation.** Planes ``[C, H, W]``: four for the agent, one for each direction it may face (the group moves the
    cells and permutes these four), then the objects' types and colours, the states of doors, and what the agent
    carries. What lies under the agent stays visible. Nothing of MiniGrid's state is hidden but what a box holds.

    **Actions.** MiniGrid's own; turning left and right swap under a mirror, and nothing else changes.
    """

    always = FACING_PLANES
    offered = (*CELL_PLANES, *CARRIED_PLANES)

    def _extent(self) -> tuple[int, int]:
        return self.world.height, self.world.width

    def _parts(self, observation: dict[str, Any]) -> list[Planes]:
        world = self.world
        grid = world.grid
        column, row = (int(coordinate) for coordinate in world.agent_pos)
        agent = np.zeros((len(FACING_PLANES), grid.height, grid.width), dtype=np.uint8)
        agent[facing(world), row, column] = 1
        parts = [agent, self._cell_planes.from_cells(grid.grid, grid.height, grid.width)]
        if self._carried:
            carried = np.zeros((len(self._carried), grid.height, grid.width), dtype=np.uint8)
            held: WorldObj | None = world.carrying
            if held is not None:
                shown = {f"carried {held.type}", f"carried {held.color}"}
                carried[:, row, column] = [CARRIED_PLANES[i] in shown for i in self._carried]
            parts.append(carried)
        return parts


class EgocentricView(GridView):
    """What the agent sees, itself at the middle of the lowest row, symmetric under the mirror alone.

    **Observation.** Planes ``[C, 7, 7]``: cells out of sight, objects' types and colours, states of doors; what the
    agent carries lies in its own cell. Turning the world does not change it, so ``"minigrid-egocentric-z2"`` has the
    mirror only.

    **Actions.** As for ``FullGridView``.
    """

    offered = ("unseen", *CELL_PLANES)

    def hidden_state(self) -> Planes:
        """Return the cells of the whole grid as the agent would see them, and what it carries: ``[size]``."""
        world = self.world
        cells = world.grid.encode()
        x, y = (int(coordinate) for coordinate in world.agent_pos)
        for _ in range(int(world.agent_dir) + 1):  # as MiniGrid turns its view
            x, y = y, len(cells) - 1 - x
            cells = cells.swapaxes(0, 1)[:, ::-1]
        side = max(cells.shape[:2])
        around = np.zeros((2 * side - 1, 2 * side - 1, 3), dtype=np.uint8)
        left, top = side - 1 - x, side - 1 - y
        around[left : left + cells.shape[0], top : top + cells.shape[1]] = cells
        held: WorldObj | None = world.carrying
        carried = np.array((0, 0, 0) if held is None else held.encode(), dtype=np.uint8)
        return np.concatenate([around.reshape(-1), carried])

    def _extent(self) -> tuple[int, int]:
        size = int(self.world.agent_view_size)
        return size, size

    def _parts(self, observation: dict[str, Any]) -> list[Planes]:
        return [self._cell_planes.from_codes(np.asarray(observation["image"]).swapaxes(0, 1))]


def _is_direct(environment: Any, view: str) -> bool:
    """Return whether all wrappers of an environment hand on what it observes.

    Raises:
        ValueError: A wrapper changes observations or actions: the view would undo the one, and misread the other.
    """
    direct, layer = True, environment
    while isinstance(layer, gym.Wrapper):
        if isinstance(layer, (gym.ObservationWrapper, gym.ActionWrapper)):
            what = "observations" if isinstance(layer, gym.ObservationWrapper) else "actions"
            raise ValueError(
                f"{view} looks at the MiniGrid world itself, but {type(layer).__name__} inside it changes {what}. "
                f"Leave {type(layer).__name__} out, or put it around {view}"
            )
        direct = direct and isinstance(layer, _TRANSPARENT)
        layer = layer.env
    return direct
