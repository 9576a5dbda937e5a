"""An empty MiniGrid room whose goal is at a random place: MiniGrid's own keep it in one corner."""

from __future__ import annotations

from typing import Any

from minigrid.core.grid import Grid
from minigrid.core.mission import MissionSpace
from minigrid.core.world_object import Goal
from minigrid.minigrid_env import MiniGridEnv

from equirl.arguments import whole_number

__all__ = ["EmptyRoomEnv"]


class EmptyRoomEnv(MiniGridEnv):
    """A walled room, nothing in it but a goal: goal, agent and direction are uniform, so its starts have all of D4.

    Observations, actions and rewards are MiniGrid's; look at it through ``FullGridView`` or ``EgocentricView``.

    Args:
        size: Rows and columns, the walls included; at least 4.
        max_steps: Steps before truncation; ``4 * size`` by default.
        **kwargs: As for every ``MiniGridEnv``: ``render_mode``, ``agent_view_size``, ...

    Raises:
        TypeError: ``size`` or ``max_steps`` is no whole number.
        ValueError: ``size`` is less than 4, so that there is no room for agent and goal, or ``max_steps`` less than 1.
    """

    def __init__(self, size: int = 6, max_steps: int | None = None, **kwargs: Any) -> None:
        size = whole_number(size, "size", -(2**31))
        if size < 4:
            raise ValueError(f"size must be at least 4, not {size}: walls, agent and goal need it")
        super().__init__(
            mission_space=MissionSpace(mission_func=self._gen_mission),
            grid_size=size,
            see_through_walls=True,
            max_steps=4 * size if max_steps is None else whole_number(max_steps, "max_steps", 1),
            **kwargs,
        )

    @staticmethod
    def _gen_mission() -> str:
        return "get to the green goal square"

    def _gen_grid(self, width: int, height: int) -> None:
        self.grid = Grid(width, height)
        self.grid.wall_rect(0, 0, width, height)
        self.place_obj(Goal())
        self.place_agent()  # type: ignore[no-untyped-call]
        self.mission = self._gen_mission()
