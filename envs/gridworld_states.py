"""The exact success rate of an agent on a GridWorld without walls and chance: every start and goal, no sampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.broken_grid import Breaks, next_cells

__all__ = ["GridWorldStates"]


class GridWorldStates:
    """All states of a ``size x size`` GridWorld without walls, and where each move leads.

    Args:
        size: Rows and columns.
        max_steps: Steps an episode may take; ``4 * size`` by default, as in the environment.
        breaks: What breaks the grid's symmetry, but for wind.

    Attributes:
        observations: One observation per state, shape ``[S, 3, size, size]``, uint8, ``S = size^2 (size^2 - 1)``.
        agents: The agent's cell in each state, shape ``[S]``.
        goals: The goal's cell in each state, ``row * size + column``, shape ``[S]``.

    Raises:
        ValueError: A grid of fewer than 2 rows, no steps, or wind, which is chance.
    """

    def __init__(self, size: int = 7, max_steps: int | None = None, breaks: Breaks | None = None) -> None:
        whole_number(size, "size", 2)
        if max_steps is not None:
            whole_number(max_steps, "max_steps", 1)
        if breaks is not None and breaks.wind > 0:
            raise ValueError("with wind success hangs on chance: count episodes instead")
        self.max_steps = 4 * size if max_steps is None else max_steps
        cells = np.arange(size * size)
        agent, goal = (grid.ravel() for grid in np.meshgrid(cells, cells, indexing="ij"))
        differ = agent != goal
        agent, goal = agent[differ], goal[differ]
        self.agents, self.goals = agent, goal
        state = np.arange(len(agent))
        flat = np.zeros((len(agent), 3, size * size), dtype=np.uint8)
        flat[state, 0, agent] = 1
        flat[state, 1, goal] = 1
        self.observations = flat.reshape(-1, 3, size, size)
        state_of = np.full((size * size, size * size), -1)  # -1: at the goal
        state_of[agent, goal] = state
        target = next_cells(size, breaks)[agent]
        self._next_state: NDArray[np.int64] = state_of[target, goal[:, None]]

    def success_rate(self, model: Any) -> float:
        """Return the share of states from which the greedy policy reaches the goal in time, in [0, 1]."""
        return float(self.successes(model).mean())

    def successes(self, model: Any) -> NDArray[np.bool_]:
        """Return for each state whether the greedy policy reaches the goal from there in time, shape ``[S]``."""
        actions, _ = model.predict(self.observations, deterministic=True)
        follow = np.append(self._next_state[np.arange(len(actions)), actions], -1)  # the goal leads to the goal
        state = np.arange(len(actions))
        for _ in range(self.max_steps):
            state = follow[state]
        return np.asarray(state == -1)
