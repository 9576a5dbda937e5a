import pytest
import torch

from equirl import (
    MDPSymmetry,
    build_symmetry,
    cyclic_group,
    dihedral_group,
    image_representation,
    permutation_representation,
    register_symmetry,
    trivial_representation,
)
from equirl.envs import grid_symmetry
from equirl.symmetry import registered_symmetries


def _grid(size: int = 5) -> MDPSymmetry:
    return grid_symmetry("grid-d4", dihedral_group(4), (3, size, size), 4)


def test_moves_turn_with_the_image() -> None:
    symmetry = build_symmetry("grid-d4", (1, 3, 3), 4)
    up = torch.zeros(1, 1, 3, 3)
    up[0, 0, 0, 1] = 1  # the cell above the centre, where action 0 (up) leads
    cell_of_action = [(0, 1), (1, 0), (2, 1), (1, 2)]  # up, left, down, right
    for g in symmetry.group.element_names:
        moved = symmetry.observation.transform(g, up)
        action = symmetry.action.transform(g, torch.tensor([[1.0, 0, 0, 0]])).argmax()
        assert moved[0, 0][cell_of_action[int(action)]] == 1


def test_equality_is_by_content() -> None:
    assert _grid() == _grid()
    assert _grid() != _grid(6)
    assert len({_grid(), _grid()}) == 1


def test_registry() -> None:
    assert {"grid-c4", "grid-d4"} <= set(registered_symmetries())
    with pytest.raises(ValueError, match=r"symmetry 'grid-d8' is unknown; known: .*grid-d4.* Did you mean 'grid-d4'"):
        build_symmetry("grid-d8", (3, 5, 5), 4)
    with pytest.raises(ValueError, match="'grid-d4' is already registered"):
        register_symmetry("grid-d4", lambda shape, n: _grid())


def test_sizes_that_do_not_fit_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"acts on observations \[3, 5, 5\], but the observation space has \[3, 6, 6\]"
    ):
        _grid().check_fits((3, 6, 6), 4)
    with pytest.raises(ValueError, match="permutes 4 actions, but the action space has 3"):
        _grid().check_fits((3, 5, 5), 3)
    with pytest.raises(ValueError, match="quarter turn, which maps a 5 x 7 image to 7 x 5"):
        build_symmetry("grid-c4", (3, 5, 7), 4)
    with pytest.raises(ValueError, match="4 moves up, left, down, right; there are 6 actions"):
        build_symmetry("grid-c4", (3, 5, 5), 6)
    with pytest.raises(ValueError, match=r"acts on images \[C, H, W\]; the observation space has \(75,\)"):
        build_symmetry("grid-c4", (75,), 4)


def test_parts_that_do_not_belong_together_are_refused() -> None:
    c4, d4 = cyclic_group(4), dihedral_group(4)
    with pytest.raises(ValueError, match="observations represent C4, actions D4"):
        MDPSymmetry("mixed", image_representation(c4, (1, 3, 3)), permutation_representation(d4))
    c2 = cyclic_group(2)
    with pytest.raises(ValueError, match=r"a representation on actions has the sample shape \[n\]"):
        MDPSymmetry("square", trivial_representation(c2, (1,)), trivial_representation(c2, (2, 2)))
