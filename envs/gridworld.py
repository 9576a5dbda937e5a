"""GridWorld: an agent walks to a goal on a square grid whose quarter turns and mirrors are symmetries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from equirl.arguments import real_number, whole_number
from equirl.envs.broken_grid import MOVES, Breaks, next_cells
from equirl.envs.chosen_action import chosen_action
from equirl.envs.drawing import Window, draw_rgb, draw_text
from equirl.envs.regions import Region, region_cells
from equirl.symmetry import MDPSymmetry, build_symmetry

__all__ = ["MOVES", "GridWorldEnv", "State"]

_TRIES = 1000
_RIGHT = 3

State: TypeAlias = tuple[tuple[int, int], tuple[int, int], NDArray[np.bool_]]
"""Cell of the agent, cell of the goal, walls ``[size, size]``."""


class GridWorldEnv(gym.Env[NDArray[np.uint8], np.int64]):
    """Walk to the goal on a ``size x size`` grid.

    **Observation.** Image ``[3, size, size]``, uint8 in {0, 1}: channel 0 marks the agent, 1 the goal, 2 the walls.

    **Actions.** Four absolute moves: 0 up, 1 left, 2 down, 3 right. A move into a wall or off the grid stays in place.

    **Reward.** 1 on reaching the goal, else 0.

    **Episode end.** Terminates at the goal; truncated after ``max_steps`` steps. ``info["is_success"]`` tells which.

    **Symmetry.** D4 (``"grid-d4"``) and its subgroup C4 (``"grid-c4"``): an element turns and mirrors the image and
    renames the moves accordingly. Dynamics and rewards are symmetric unless the last four settings break them in places
    that ``equirl.envs.broken_grid.broken_moves`` knows; the distribution of starts and goals is symmetric where both
    regions are (``"uniform"``).

    Args:
        size: Rows and columns, at least 2.
        start: Region the start is drawn from, uniformly; see ``equirl.envs.region_cells``.
        goal: Region the goal is drawn from, uniformly; never the start.
        wall_density: Probability in [0, 0.5] that a cell other than start and goal is a wall, independently; layouts
            without a way to the goal are drawn again.
        slip: Probability in [0, 1] that a move goes to one side instead, each side equally often.
        max_steps: Steps before truncation; ``4 * size`` by default.
        render_mode: ``None``, ``"rgb_array"``, ``"human"`` or ``"ansi"``.
        broken_cells: Share in [0, 1] of the cells in which one move goes to another side than it says.
        one_way: Share in [0, 1] of the borders between cells that can be crossed in one direction alone.
        wind: Probability in [0, 1] that the agent is carried one cell to the right after its move.
        broken_seed: Seed of the places of the first two, which are the same in all episodes.

    Raises:
        TypeError: A setting of another kind, such as a size of 2.5.
        ValueError: A setting out of its range, regions that leave no start different from the goal, or no grid with
            such breaks on which every cell can be reached.
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012 (as Gymnasium declares it)
    symmetry_names: ClassVar[tuple[str, ...]] = ("grid-d4", "grid-c4")

    def __init__(
        self,
        size: int = 7,
        start: Region = "uniform",
        goal: Region = "uniform",
        wall_density: float = 0.0,
        slip: float = 0.0,
        max_steps: int | None = None,
        render_mode: str | None = None,
        broken_cells: float = 0.0,
        one_way: float = 0.0,
        wind: float = 0.0,
        broken_seed: int = 0,
    ) -> None:
        size = whole_number(size, "size", -(2**31))
        if size < 2:
            raise ValueError(f"size must be at least 2, not {size}: start and goal differ")
        if not 0 <= _number(wall_density, "wall_density") <= 0.5:
            raise ValueError(f"wall_density must be in [0, 0.5], not {wall_density}: denser grids rarely have a way")
        if not 0 <= _number(slip, "slip") <= 1:
            raise ValueError(f"slip is a probability in [0, 1], not {slip}")
        if max_steps is not None and whole_number(max_steps, "max_steps", -(2**31)) < 1:
            raise ValueError(f"max_steps must be at least 1, not {max_steps}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode {render_mode!r} is unknown; known: {self.metadata['render_modes']}")
        self.size = size
        self.wall_density = wall_density
        self.slip = slip
        self.breaks = Breaks(broken_cells, one_way, wind, broken_seed)
        self.next_cell = next_cells(size, self.breaks)
        self._intact = next_cells(size)
        self.max_steps = 4 * size if max_steps is None else max_steps
        self.render_mode = render_mode
        self.start_cells = region_cells(start, size)
        self.goal_cells = region_cells(goal, size)
        if len(np.union1d(self.start_cells, self.goal_cells)) < 2:
            raise ValueError(f"start {start!r} and goal {goal!r} are one and the same cell; enlarge a region")
        self.observation_space = spaces.Box(0, 1, (3, size, size), dtype=np.uint8)
        self.action_space = spaces.Discrete(4)
        self._window = Window("equirl GridWorld", self.metadata["render_fps"])
        self.agent: tuple[int, int] = (0, 0)
        self.goal: tuple[int, int] = (0, 0)
        self.walls: NDArray[np.bool_] = np.zeros((size, size), dtype=bool)
        self._steps: int | None = None  # None before the first reset

    @property
    def symmetry(self) -> MDPSymmetry:
        """The largest symmetry of the dynamics, D4."""
        return build_symmetry(self.symmetry_names[0], self.observation_space.shape or (), 4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the environment's random numbers.
            options: ``"agent"`` and ``"goal"``, ``(row, column)`` each, and ``"walls"``, booleans ``[size, size]``,
                fix that part of the state; the rest is drawn.

        Returns:
            The observation, and an empty info.

        Raises:
            ValueError: Unknown options, or no state fits them: start, goal and walls coincide or no way leads there.
        """
        super().reset(seed=seed)
        agent, goal, walls = self.draw_state(self.np_random, {} if options is None else options)
        self.agent, self.goal, self.walls = agent, goal, walls
        self._steps = 0
        if self.render_mode == "human":
            self.render()
        return self._observe(), {}

    def step(self, action: np.int64 | int) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move, and return observation, reward, terminated, truncated and info (with ``is_success``).

        Raises:
            ResetNeeded: There was no ``reset`` yet.
            ValueError: ``action`` is not 0, 1, 2 or 3.
        """
        if self._steps is None:
            raise ResetNeeded("step() before the first reset(): there is no agent on the grid yet. Call reset() first")
        move = chosen_action(action, 4)
        if move is None:
            raise ValueError(f"action {action!r} is not one of 0 up, 1 left, 2 down, 3 right")
        if self.slip > 0 and self.np_random.random() < self.slip:
            move = (move + (1 if self.np_random.random() < 0.5 else 3)) % 4
        self._go(self.next_cell, move)
        if self.breaks.wind > 0 and self.np_random.random() < self.breaks.wind:
            self._go(self._intact, _RIGHT)
        self._steps += 1
        success = self.agent == self.goal
        truncated = not success and self._steps >= self.max_steps
        if self.render_mode == "human":
            self.render()
        return self._observe(), float(success), success, truncated, {"is_success": success}

    def render(self) -> Any:
        """Return an RGB array ``[H, W, 3]`` or text, or show the window, as ``render_mode`` says.

        Raises:
            ResetNeeded: There was no ``reset`` yet.
        """
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode: pass render_mode to gymnasium.make")
            return None
        if self._steps is None:
            raise ResetNeeded("render() before the first reset(): there is nothing to draw yet. Call reset() first")
        if self.render_mode == "ansi":
            return draw_text(self.agent, self.goal, self.walls)
        picture = draw_rgb(self.agent, self.goal, self.walls)
        if self.render_mode == "human":
            self._window.show(picture)
            return None
        return picture

    def close(self) -> None:
        """Close the window, if there is one."""
        self._window.close()

    def draw_state(self, random: np.random.Generator, options: dict[str, Any]) -> State:
        """Return the start of a new episode, drawn with the given random numbers; options and errors as ``reset``."""
        if not isinstance(options, Mapping):
            raise TypeError(f"reset options are a dict with 'agent', 'goal' or 'walls'; got {options!r}")
        if unknown := set(options) - {"agent", "goal", "walls"}:
            raise ValueError(f"unknown reset options {sorted(unknown)}; known: 'agent', 'goal', 'walls'")
        fixed_agent, fixed_goal = (self._cell(options, key) for key in ("agent", "goal"))
        fixed_walls = self._fixed_walls(options["walls"]) if "walls" in options else None
        for _ in range(_TRIES):
            agent = self._draw(random, self.start_cells) if fixed_agent is None else fixed_agent
            goal = self._draw(random, self.goal_cells) if fixed_goal is None else fixed_goal
            if fixed_walls is not None:
                walls = fixed_walls
            elif self.wall_density > 0:
                walls = random.random(self.walls.shape) < self.wall_density
                walls[agent] = walls[goal] = False
            else:
                walls = np.zeros_like(self.walls)
            if agent != goal and not walls[agent] and not walls[goal] and self._connected(agent, goal, walls):
                return agent, goal, walls
        raise ValueError(
            f"no start and goal with a way between them in {_TRIES} draws (wall_density {self.wall_density}, "
            f"options {sorted(options)}); lower wall_density or change the options"
        )

    def _go(self, next_cell: NDArray[np.int64], move: int) -> None:
        row, column = divmod(int(next_cell[self.agent[0] * self.size + self.agent[1], move]), self.size)
        if not self.walls[row, column]:
            self.agent = (row, column)

    def _observe(self) -> NDArray[np.uint8]:
        observation = np.zeros((3, self.size, self.size), dtype=np.uint8)
        observation[0, *self.agent] = 1
        observation[1, *self.goal] = 1
        observation[2] = self.walls
        return observation

    def _draw(self, random: np.random.Generator, cells: NDArray[np.int64]) -> tuple[int, int]:
        return divmod(int(cells[random.integers(len(cells))]), self.size)

    def _cell(self, options: dict[str, Any], key: str) -> tuple[int, int] | None:
        if key not in options:
            return None
        try:
            row, column = (whole_number(i, f"row and column of {key!r}", -(2**31)) for i in options[key])
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key!r} is (row, column), two whole numbers; got {options[key]!r}") from error
        if not (0 <= row < self.size and 0 <= column < self.size):
            raise ValueError(f"{key} = ({row}, {column}) is off the {self.size} x {self.size} grid")
        return row, column

    def _fixed_walls(self, given: Any) -> NDArray[np.bool_]:
        try:
            walls = np.asarray(given)
        except ValueError as error:
            raise ValueError(
                f"walls are booleans of shape {self.walls.shape}; got rows of different lengths"
            ) from error
        if walls.shape != self.walls.shape:
            raise ValueError(f"walls must have shape {self.walls.shape}, not {walls.shape}")
        if walls.dtype.kind not in "biuf" or not bool(((walls == 0) | (walls == 1)).all()):
            raise ValueError(f"walls are booleans, or 0 and 1; got {given!r}")
        return walls.astype(bool)

    def _connected(self, start: tuple[int, int], goal: tuple[int, int], walls: NDArray[np.bool_]) -> bool:
        if not walls.any():
            return True
        reached, frontier = {start}, [start]
        while frontier:
            row, column = frontier.pop()
            for number in self.next_cell[row * self.size + column].tolist():
                cell = divmod(number, self.size)
                if cell not in reached and not walls[cell]:
                    reached.add(cell)
                    frontier.append(cell)
        return goal in reached


def _number(given: Any, what: str) -> float:
    # NaN and infinity fail the comparison that follows, whose message names the range.
    return float(given) if isinstance(given, (float, np.floating)) else real_number(given, what)
