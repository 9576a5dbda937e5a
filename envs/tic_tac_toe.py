"""Tic-tac-toe for one learner: masks of legal moves, either side, and an opponent that is part of the world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.envs.placing import register_placer
from equirl.names import unknown_name_message

__all__ = ["OPPONENTS", "Opponent", "TicTacToeEnv"]

Opponent: TypeAlias = Callable[[NDArray[np.uint8], NDArray[np.bool_], np.random.Generator], int]
"""A player: from its own view ``[2, 3, 3]``, the legal moves ``[9]`` and a generator to the cell that it takes."""

_Board: TypeAlias = tuple[int, ...]  # 9 cells, row by row: 1 of the player to move, -1 of the other, 0 free

_LINES = ((0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6))


class TicTacToeEnv(gym.Env[NDArray[np.uint8], int]):
    """Tic-tac-toe against an opponent; the learner begins in half of the games, and each step is one move of both.

    **Observation** ``[2, 3, 3]``, uint8: the learner's marks and the opponent's. **Action** ``Discrete(9)``: the cell
    to take, row by row. ``action_masks()`` gives the legal ones, as sb3-contrib's MaskablePPO wants them; an illegal
    move loses the game. **Reward** at the end: 1 for a win, 0 for a draw, -1 for a loss. ``info["is_success"]`` says
    that the game was not lost.

    **Symmetry** ``board-d4``: turned and flipped boards are the same game, where the opponent plays equal moves with
    equal probability. ``"random"`` does, and so does ``"perfect"``, which draws among all best moves. A player that
    always takes the first of several best moves does not: the world with it has no symmetry.

    Args:
        opponent: ``"random"``, ``"perfect"`` (never loses), a function such as
            ``equirl.agents.PolicyOpponent``, or a sequence of these, of which each game draws one.

    Raises:
        TypeError: An opponent that is neither a name nor a function.
        ValueError: An unknown name, or an empty sequence.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 (Gymnasium's own form)

    def __init__(self, opponent: str | Opponent | Sequence[str | Opponent] = "random") -> None:
        self.observation_space = spaces.Box(0, 1, (2, 3, 3), np.uint8)
        self.action_space: Any = spaces.Discrete(9)
        self._board: _Board = (0,) * 9
        self.set_opponent(opponent)

    def set_opponent(self, opponent: str | Opponent | Sequence[str | Opponent]) -> None:
        """Play against another opponent, or others, from the next game on.

        Args:
            opponent: As for the class.

        Raises:
            TypeError: An opponent that is neither a name nor a function.
            ValueError: An unknown name, or an empty sequence.
        """
        given = list(opponent) if isinstance(opponent, (list, tuple)) else [opponent]
        if not given:
            raise ValueError("opponent is an empty sequence: give at least one player")
        self._opponents = [_player(each) for each in given]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin a game; the opponent moves first in half of them.

        Args:
            seed: Seed of all that is drawn: who begins, which opponent, and its moves.
            options: ``{"board": [2, 3, 3]}`` begins at that position, the learner to move.

        Raises:
            ValueError: A board that no unfinished game shows when the learner is to move, or another option.
        """
        super().reset(seed=seed)
        if unknown := sorted(set(options or {}) - {"board"}):
            raise ValueError(unknown_name_message("reset option", unknown[0], ["board"]))
        self._opponent = self._opponents[int(self.np_random.integers(len(self._opponents)))]
        self._board = (0,) * 9 if not options else _read_board(options["board"])
        if not options and self.np_random.random() < 0.5:
            self._reply()
        return _view(self._board).copy(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a cell, and let the opponent reply.

        Raises:
            ValueError: An action that is no cell.
        """
        cell = int(action)
        if not 0 <= cell < 9:
            raise ValueError(f"an action is a cell from 0 to 8, row by row; got {action!r}")
        reward, ended = -1, True
        if self._board[cell] == 0:
            self._board = _with(self._board, cell, 1)
            reward, ended = _result(self._board)
            if not ended:
                self._reply()
                reward, ended = _result(self._board)
        info = {"is_success": reward >= 0} if ended else {}
        return _view(self._board).copy(), float(reward), ended, False, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which cells are free, ``[9]``."""
        return _free(self._board).copy()

    def drawn_board(self) -> str:
        """Return the board in three lines: ``x`` for the learner, ``o`` for the opponent."""
        marks = [".xo"[value] for value in self._board]
        return "\n".join("".join(marks[row : row + 3]) for row in (0, 3, 6))

    @staticmethod
    def positions() -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return all positions that a player can be asked about, ``[4520, 2, 3, 3]``, and the legal moves there."""
        boards = np.asarray(_positions(), dtype=np.int8).reshape(-1, 1, 3, 3)
        return np.concatenate([boards == 1, boards == -1], axis=1).astype(np.uint8), boards.reshape(-1, 9) == 0

    def _reply(self) -> None:
        """Let the opponent move.

        Raises:
            ValueError: It takes no free cell.
        """
        theirs = tuple(-value for value in self._board)
        cell = int(self._opponent(_view(theirs), _free(theirs), self.np_random))
        if not 0 <= cell < 9 or self._board[cell]:
            raise ValueError(f"the opponent took cell {cell}, which is not free in\n{self.drawn_board()}")
        self._board = _with(self._board, cell, -1)


def _random_player(_: NDArray[np.uint8], mask: NDArray[np.bool_], random: np.random.Generator) -> int:
    return int(random.choice(np.flatnonzero(mask)))


def _perfect_player(view: NDArray[np.uint8], _: NDArray[np.bool_], random: np.random.Generator) -> int:
    flat = view.reshape(2, 9).astype(int)
    return int(random.choice(_minimax(tuple((flat[0] - flat[1]).tolist()))[1]))


OPPONENTS: dict[str, Opponent] = {"random": _random_player, "perfect": _perfect_player}
"""Players by name."""


def _player(given: Any) -> Opponent:
    if isinstance(given, str):
        if given not in OPPONENTS:
            raise ValueError(unknown_name_message("opponent", given, OPPONENTS))
        return OPPONENTS[given]
    if not callable(given):
        raise TypeError(f"an opponent is one of {', '.join(OPPONENTS)}, or a function; got {given!r}")
    player: Opponent = given
    return player


def _with(board: _Board, cell: int, mark: int) -> _Board:
    return (*board[:cell], mark, *board[cell + 1 :])


@cache
def _view(board: _Board) -> NDArray[np.uint8]:
    """Return the planes of a board, read-only: the same array for the same board."""
    marks = np.asarray(board).reshape(3, 3)
    planes = np.stack([marks == 1, marks == -1]).astype(np.uint8)
    planes.flags.writeable = False
    return planes


@cache
def _free(board: _Board) -> NDArray[np.bool_]:
    """Return the free cells, read-only."""
    cells: NDArray[np.bool_] = np.asarray(board) == 0
    cells.flags.writeable = False
    return cells


@cache
def _result(board: _Board) -> tuple[int, bool]:
    """Return the result for the player whose marks are 1, and whether the game is over."""
    for line in _LINES:
        if abs(total := sum(board[cell] for cell in line)) == 3:
            return total // 3, True
    return 0, 0 not in board


@cache
def _minimax(board: _Board) -> tuple[int, tuple[int, ...]]:
    """Return the value for the player to move, in an unfinished game, and all moves that reach it."""
    values = {}
    for cell in (cell for cell in range(9) if board[cell] == 0):
        after = _with(board, cell, 1)
        value, ended = _result(after)
        values[cell] = value if ended else -_minimax(tuple(-each for each in after))[0]
    best = max(values.values())
    return best, tuple(cell for cell, value in values.items() if value == best)


@cache
def _positions() -> tuple[_Board, ...]:
    """Return every unfinished position, as the player to move sees it."""
    found: dict[_Board, None] = {}
    waiting: list[_Board] = [(0,) * 9]
    while waiting:
        board = waiting.pop()
        if board in found or _result(board)[1]:
            continue
        found[board] = None
        waiting += [tuple(-each for each in _with(board, cell, 1)) for cell in range(9) if board[cell] == 0]
    return tuple(found)


@cache
def _known() -> frozenset[_Board]:
    return frozenset(_positions())


def _read_board(given: Any) -> _Board:
    planes = np.asarray(given)
    if planes.shape == (2, 3, 3):
        board = tuple((planes[0].astype(int) - planes[1].astype(int)).ravel().tolist())
        if board in _known() and bool((planes == _view(board)).all()):
            return board
    raise ValueError(
        "a board is two planes [2, 3, 3] of 0 and 1, the learner's marks and the opponent's, of an unfinished game in "
        f"which the learner is to move; got {given!r}"
    )


def _place(environment: TicTacToeEnv, observation: NDArray[Any]) -> None:
    environment.reset(options={"board": observation})


register_placer(TicTacToeEnv, _place)
