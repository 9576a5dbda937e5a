"""The names ``torus-...``: shifts of a torus with its turns and mirrors, for any size, checked against a world."""

from typing import Any

import numpy as np
import pytest
from found_worlds import MOVES, Torus

from equirl.envs import check_symmetry
from equirl.envs.placing import register_placer
from equirl.symmetry import build_symmetry


class _Named(Torus):
    """The torus with the moves in the order of the names: up, left, down, right, stay."""

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(MOVES.index([(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0)][action]))


def _place(world: Torus, seen: np.ndarray) -> None:
    world.agent, world.goal = np.argwhere(seen[0])[0], np.argwhere(seen[1])[0]


register_placer(_Named, _place)


@pytest.mark.parametrize(("name", "order"), [("torus-shifts", 25), ("torus-c4", 100), ("torus-d4", 200)])
def test_a_name_fits_any_torus_and_holds(name: str, order: int) -> None:
    assert build_symmetry(name, (2, 5, 5), 5).group.order == order
    assert build_symmetry(name, (2, 7, 7), 4).group.order == order // 25 * 49
    report = check_symmetry(_Named(), name, n_transitions=60, n_resets=100)
    assert report.verdict == "holds", report
    marked = check_symmetry(_Named(marked=True), name, n_transitions=60, n_resets=100)
    assert marked.verdict == "violated"


def test_sizes_that_do_not_fit_are_said() -> None:
    assert build_symmetry("torus-shifts", (1, 3, 4), 4).group.order == 12
    with pytest.raises(ValueError, match="quarter turn, which maps a 4 x 5 torus"):
        build_symmetry("torus-d4", (2, 4, 5), 5)
    with pytest.raises(ValueError, match="there are 6 actions"):
        build_symmetry("torus-d4", (2, 5, 5), 6)
    with pytest.raises(ValueError, match="images"):
        build_symmetry("torus-d4", (5, 5), 4)
