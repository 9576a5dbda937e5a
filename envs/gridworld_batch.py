"""Many GridWorlds at once, stepped by array operations: the same episodes as single ones with the same seeds."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.utils import seeding
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.broken_grid import next_cells
from equirl.envs.gridworld import GridWorldEnv
from equirl.names import unknown_name_message

__all__ = ["GridWorldBatch"]

_DRAWN_AHEAD = 256
_INT64 = np.dtype(np.int64)


class GridWorldBatch:
    """The states of ``n`` GridWorlds as arrays; environment ``i`` draws from random numbers of its own.

    Without walls and slips only starts are random, and they are drawn in blocks ahead of their use. The numbers are
    those that a single environment draws one by one.

    All state is in arrays and generators of its own, none of which is a view of another, so that deep copies and
    pickles go on as the original does.

    Args:
        n: Number of environments.
        max_episode_steps: Gymnasium's limit on an episode's length, as ``gymnasium.make`` takes it; unlike
            ``max_steps`` of ``GridWorldEnv``, it truncates an episode that reaches the goal with its last step, too.
        **settings: As for ``GridWorldEnv``.

    Raises:
        TypeError: A number that is not whole.
        ValueError: As ``GridWorldEnv``, fewer than one environment, or ``max_episode_steps`` below 1.
    """

    def __init__(self, n: int, max_episode_steps: int | None = None, **settings: Any) -> None:
        n = whole_number(n, "n", 1)
        known = list(inspect.signature(GridWorldEnv).parameters)
        for name in settings:
            if name not in known:
                raise ValueError(unknown_name_message("setting of GridWorld", name, known))
        self.single = GridWorldEnv(**settings)
        self.n = n
        self._limit = self.single.max_steps
        self._cut_at_the_goal = False
        if max_episode_steps is not None:
            limit = whole_number(max_episode_steps, "max_episode_steps", 1)
            self._cut_at_the_goal = limit <= self._limit
            self._limit = min(limit, self._limit)
        cells = self.single.size**2
        # All lookups and marks go through flat arrays: with two indices NumPy takes several times as long.
        self._next_cell = self.single.next_cell.ravel()
        self._right_of = next_cells(self.single.size)[:, 3]
        self._cells = cells
        self._marks: NDArray[np.uint8] = np.zeros(n * 3 * cells, dtype=np.uint8)
        self._first_mark = np.arange(n) * 3 * cells
        self._random, self._seeds = (list(part) for part in zip(*(seeding.np_random() for _ in range(n)), strict=True))
        self._ahead: list[_Ahead | None] = [None] * n
        self._draws_ahead = self.single.slip == self.single.wall_density == self.single.breaks.wind == 0
        self._bounds = np.tile([len(self.single.start_cells), len(self.single.goal_cells)], _DRAWN_AHEAD)
        self._any_walls = False
        self._nobody: NDArray[np.bool_] = np.zeros(n, dtype=bool)
        self.agent: NDArray[np.int64] = np.zeros(n, dtype=np.int64)
        self.goal: NDArray[np.int64] = np.zeros(n, dtype=np.int64)
        self.walls: NDArray[np.bool_] = np.zeros((n, cells), dtype=bool)
        self._actions_shape = (n,)
        self._image_shape = (n, 3, self.single.size, self.single.size)
        self._started: NDArray[np.bool_] = np.zeros(n, dtype=bool)
        self._all_started = False
        # When each episode is cut, by a clock that all share: nothing is counted per environment.
        self._clock = 0
        self._ends_at: NDArray[np.int64] = np.zeros(n, dtype=np.int64)

    def seed(self, i: int, seed: int | None) -> None:
        """Seed environment ``i``."""
        self._random[i], self._seeds[i] = seeding.np_random(seed)
        self._ahead[i] = None

    def seeds(self) -> tuple[int, ...]:
        """Return the seed of each environment's random numbers."""
        return tuple(self._seeds)

    def generators(self) -> tuple[np.random.Generator, ...]:
        """Return each environment's random numbers, where a single environment's would stand."""
        for i in range(self.n):
            self._put_back(i)
        return tuple(self._random)

    def reset(self, indices: Iterable[int], options: dict[str, Any] | None = None) -> None:
        """Start new episodes in some environments.

        Args:
            indices: Which.
            options: As for ``GridWorldEnv.reset``.

        Raises:
            ValueError: As ``GridWorldEnv.reset``.
        """
        for i in indices:
            if self._draws_ahead and not options:
                agent, goal = self._take_ahead(i)
                if self._any_walls:  # of an earlier episode that was given some
                    self._build_walls(i, np.zeros(self._cells, dtype=bool))
            else:
                agent, goal = self._draw(i, options or {})
            first = i * 3 * self._cells
            marks = self._marks
            marks[first + self.agent.item(i)] = marks[first + self._cells + self.goal.item(i)] = 0
            marks[first + agent] = marks[first + self._cells + goal] = 1
            self.agent[i] = agent
            self.goal[i] = goal
            self._ends_at[i] = self._clock + self._limit
            self._started[i] = True
        self._all_started = bool(self._started.all())

    def step(
        self, actions: NDArray[np.integer[Any]], skip: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Move all agents and return who arrived and whose time is up, each ``[n]``.

        Args:
            actions: Integers ``[n]``.
            skip: Environments that are about to be reset, ``[n]``: nothing is drawn for them, nothing happens to them.

        Raises:
            TypeError: Actions that are not integers.
            ValueError: An action is not 0, 1, 2 or 3, or there is not one for each environment.
            ResetNeeded: An environment has not begun its first episode.
        """
        if not self._all_started:
            self.require_started("step")
        moves = self.checked_actions(actions)
        if not 0 <= np.bitwise_or.reduce(moves) <= 3:
            wrong = int(np.flatnonzero((moves < 0) | (moves > 3))[0])
            raise ValueError(
                f"action {moves[wrong]} of environment {wrong} is not one of 0 up, 1 left, 2 down, 3 right"
            )
        if moves.dtype is not _INT64:
            moves = moves.astype(_INT64)
        wind = self.single.breaks.wind
        skipped = self._nobody if skip is None else skip
        if self.single.slip > 0:
            moves = np.array([int(m) if skipped[i] else self._slipped(i, int(m)) for i, m in enumerate(moves)])
        agent = self._past_walls(self._next_cell[4 * self.agent + moves], self.agent)
        if self.single.breaks.wind > 0:
            carried = np.array([not skipped[i] and random.random() < wind for i, random in enumerate(self._random)])
            agent = np.where(carried, self._past_walls(self._right_of[agent], agent), agent)
        self._marks[self._first_mark + self.agent] = 0
        self._marks[self._first_mark + agent] = 1
        self.agent = agent
        self._clock += 1
        success = agent == self.goal
        truncated = self._ends_at <= self._clock
        if not self._cut_at_the_goal:
            truncated = truncated > success  # and not
        return (success, truncated) if skip is None else (success & ~skip, truncated & ~skip)

    def observations(self, indices: Sequence[int] | None = None) -> NDArray[np.uint8]:
        """Return a copy of the observations, ``[n, 3, size, size]``, or of some environments'."""
        images = self._marks.reshape(self._image_shape)
        return images.copy() if indices is None else images[indices]

    def checked_actions(self, actions: Any) -> NDArray[np.integer[Any]]:
        """Return the actions as an array of integers ``[n]``; whether they are moves is for ``step`` to check.

        Raises:
            TypeError: They are not integers.
            ValueError: There is not one for each environment.
        """
        if type(actions) is np.ndarray and actions.dtype is _INT64 and actions.shape == self._actions_shape:
            return actions  # the usual ones, at no cost
        try:
            moves = np.asarray(actions)
        except ValueError as error:
            raise ValueError(f"actions must be {self.n} integers, one for each environment; got {actions!r}") from error
        if moves.shape != (self.n,):
            raise ValueError(f"actions must have shape [{self.n}], one for each environment; got {list(moves.shape)}")
        if moves.dtype.kind not in "iu":
            raise TypeError(
                f"actions must be integers (0 up, 1 left, 2 down, 3 right); got {moves.dtype}: "
                f"{np.array2string(moves, threshold=8, edgeitems=3)}"
            )
        return moves

    def require_started(self, deed: str, besides: NDArray[np.bool_] | None = None) -> None:
        """Refuse to act on environments that have not begun an episode.

        Args:
            deed: Name of the method that was called, for the message.
            besides: Environments that may be without an episode, ``[n]``.

        Raises:
            ResetNeeded: Other environments have not begun an episode.
        """
        if self._all_started:
            return
        missing = ~self._started if besides is None else ~(self._started | besides)
        if missing.any():
            raise ResetNeeded(
                f"{deed}() before environments {np.flatnonzero(missing).tolist()} have begun an episode; call reset(), "
                "which starts all of them, first"
            )

    def cells(self, i: int) -> tuple[tuple[int, int], tuple[int, int], NDArray[np.bool_]]:
        """Return agent, goal and walls of environment ``i``, as ``equirl.envs.drawing`` takes them."""
        size = self.single.size
        agent, goal = divmod(int(self.agent[i]), size), divmod(int(self.goal[i]), size)
        return agent, goal, self.walls[i].reshape(size, size)

    def _take_ahead(self, i: int) -> tuple[int, int]:
        ahead = self._ahead[i]
        while ahead is None or not ahead.episodes:
            ahead = self._ahead[i] = _Ahead(self._random[i], self._bounds, self.single)
        ahead.taken += 1
        return ahead.episodes.pop()

    def _draw(self, i: int, options: dict[str, Any]) -> tuple[int, int]:
        self._put_back(i)
        agent, goal, walls = self.single.draw_state(self._random[i], options)
        self._build_walls(i, walls.ravel())
        return _flat(agent, self.single.size), _flat(goal, self.single.size)

    def _build_walls(self, i: int, walls: NDArray[np.bool_]) -> None:
        self.walls[i] = walls
        first = (3 * i + 2) * self._cells
        self._marks[first : first + self._cells] = walls
        self._any_walls = bool(self.walls.any())

    def _put_back(self, i: int) -> None:
        """Put the random numbers where a single environment's would be: the block's start, plus the used episodes."""
        if (ahead := self._ahead[i]) is not None:
            random = self._random[i]
            random.bit_generator.state = ahead.state_before
            for _ in range(ahead.taken):
                self.single.draw_state(random, {})
            self._ahead[i] = None

    def _past_walls(self, reached: NDArray[np.int64], before: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the agents are if they do not go into walls."""
        if not self._any_walls:
            return reached
        return np.where(self.walls[np.arange(self.n), reached], before, reached)

    def _slipped(self, i: int, move: int) -> int:
        random = self._random[i]
        if random.random() < self.single.slip:
            return (move + (1 if random.random() < 0.5 else 3)) % 4
        return move


class _Ahead:
    """A block of episodes drawn ahead of their use."""

    def __init__(self, random: np.random.Generator, bounds: NDArray[np.int64], single: GridWorldEnv) -> None:
        self.state_before = random.bit_generator.state
        self.taken = 0
        drawn = random.integers(bounds).reshape(-1, 2)
        starts, goals = single.start_cells[drawn[:, 0]], single.goal_cells[drawn[:, 1]]
        usable = np.flatnonzero(starts != goals)[::-1]
        self.episodes: list[tuple[int, int]] = list(zip(starts[usable].tolist(), goals[usable].tolist(), strict=True))


def _flat(cell: Sequence[int], size: int) -> int:
    return cell[0] * size + cell[1]
