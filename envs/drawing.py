"""Pictures of grids: an RGB array, text, and a window."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Window", "draw_rgb", "draw_text"]

_CELL = 32  # pixels
_FLOOR = (245, 245, 240)
_LINE = (205, 205, 200)
_WALL = (70, 74, 82)
_GOAL = (46, 160, 90)
_AGENT = (214, 84, 40)


def draw_rgb(agent: tuple[int, int], goal: tuple[int, int], walls: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a picture of the grid, shape ``[H, W, 3]``, 32 pixels a cell: the agent a disc, the goal a square."""
    size = len(walls)
    picture = np.empty((size * _CELL, size * _CELL, 3), dtype=np.uint8)
    picture[:] = _FLOOR
    picture[np.kron(walls, np.ones((_CELL, _CELL), dtype=bool))] = _WALL
    picture[::_CELL] = _LINE
    picture[:, ::_CELL] = _LINE
    row, column = (_CELL * goal[0], _CELL * goal[1])
    picture[row + 4 : row + _CELL - 3, column + 4 : column + _CELL - 3] = _GOAL
    y, x = np.mgrid[:_CELL, :_CELL] - (_CELL - 1) / 2
    disc = x**2 + y**2 < (0.34 * _CELL) ** 2
    row, column = (_CELL * agent[0], _CELL * agent[1])
    picture[row : row + _CELL, column : column + _CELL][disc] = _AGENT
    return picture


def draw_text(agent: tuple[int, int], goal: tuple[int, int], walls: NDArray[np.bool_]) -> str:
    """Return the grid as text: ``A`` agent, ``G`` goal, ``#`` wall, ``.`` floor; ``*`` is the agent at the goal."""
    cells = [["#" if wall else "." for wall in row] for row in walls]
    cells[goal[0]][goal[1]] = "G"
    cells[agent[0]][agent[1]] = "*" if agent == goal else "A"
    return "\n".join(" ".join(row) for row in cells)


class Window:
    """A window that shows pictures at a given rate, in frames per second; pygame is started with the first one.

    A copy of it, or of an environment that holds it, begins without a window and opens its own.
    """

    def __init__(self, title: str, frames_per_second: int) -> None:
        self._title = title
        self._frames_per_second = frames_per_second
        self._screen: Any = None
        self._clock: Any = None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture ``[H, W, 3]`` and wait for the next frame's time.

        Raises:
            pygame.error: There is no display.
        """
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        import pygame  # only a window needs it

        if self._screen is None or not pygame.display.get_init():
            try:
                pygame.display.init()
                self._screen = pygame.display.set_mode((picture.shape[1], picture.shape[0]))
            except pygame.error as error:
                raise pygame.error(
                    f"no window can be opened ({error}); use render_mode='rgb_array', or set the environment variable "
                    "SDL_VIDEODRIVER=dummy to run without a display"
                ) from error
            pygame.display.set_caption(self._title)
            self._clock = pygame.time.Clock()
        self._screen.blit(pygame.surfarray.make_surface(picture.swapaxes(0, 1)), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(self._frames_per_second)

    def close(self) -> None:
        """Close the window, if one was opened."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_screen": None, "_clock": None}
