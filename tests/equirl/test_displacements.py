import itertools

import pytest
import torch

from equirl import cyclic_group, dihedral_group, image_representation, symmetric_group
from equirl.displacements import displacement_representation, vector_representation
from equirl.plane_groups import torus_symmetries

FIVE = [(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0)]
EIGHT = [(r, c) for r, c in itertools.product((-1, 0, 1), repeat=2) if r or c]
KNIGHT = [(r, c) for r, c in itertools.product((-2, -1, 1, 2), repeat=2) if abs(r) != abs(c)]


@pytest.mark.parametrize("moves", [FIVE, FIVE[::-1], [FIVE[i] for i in (3, 1, 4, 0, 2)], EIGHT, KNIGHT])
def test_an_action_goes_where_the_image_shows_it(moves: list[tuple[int, int]]) -> None:
    group = dihedral_group(4)
    actions, images = displacement_representation(group, moves), image_representation(group, (1, 5, 5))
    for g, (a, (down, right)) in itertools.product(range(group.order), enumerate(moves)):
        world = torch.zeros(1, 1, 5, 5)
        world[0, 0, 2 + down, 2 + right] = 1
        turned = actions.transform(g, torch.eye(len(moves))[a : a + 1]).argmax()
        there = moves[int(turned)]
        assert images.transform(g, world)[0, 0, 2 + there[0], 2 + there[1]] == 1


def test_a_turn_and_a_mirror_by_hand() -> None:
    actions = displacement_representation(dihedral_group(4), FIVE)  # up, left, down, right, stay
    q = torch.tensor([[1.0, 2, 3, 4, 5]])
    assert actions.transform("r", q).tolist() == [[4, 1, 2, 3, 5]]  # up's value comes to left
    assert actions.transform("s", q).tolist() == [[1, 4, 3, 2, 5]]


def test_shifts_leave_the_actions_and_half_turns_swap_them() -> None:
    group = torus_symmetries(3, 3, dihedral_group(4))
    actions = displacement_representation(group, FIVE)
    assert actions.index[group.index("down2right")].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(actions.index[group.index("down.rs")], actions.index[group.index("rs")])
    half = displacement_representation(cyclic_group(2), [(0, 1), (0, -1), (0, 0), (0, 0)])
    assert half.index[1].tolist() == [1, 0, 2, 3]  # "stay" and "pick up" both stay


@pytest.mark.parametrize(
    ("axes", "quarter", "mirror"),
    [("xy", (-3, 2), (-2, 3)), ("xy-down", (3, -2), (-2, 3)), ("row-column", (-3, 2), (2, -3))],
)
def test_vectors_turn_by_their_axes(axes: str, quarter: tuple[int, int], mirror: tuple[int, int]) -> None:
    vectors = vector_representation(dihedral_group(4), axes)
    x = torch.tensor([[2.0, 3.0]])
    assert tuple(vectors.transform("r", x)[0].tolist()) == quarter
    assert tuple(vectors.transform("s", x)[0].tolist()) == mirror
    assert torch.equal(vectors.transform("r2", x), -x)
    assert torch.equal(vector_representation(dihedral_group(2), axes).transform("r", x), -x)


def test_mistakes_are_named() -> None:
    d4 = dihedral_group(4)
    with pytest.raises(ValueError, match=r"not closed under D4: r carries \(-1, 0\) to \(0, -1\), which is missing"):
        displacement_representation(d4, [(-1, 0), (1, 0), (0, 0)])
    with pytest.raises(ValueError, match=r"two actions have the displacement \(0, 1\)"):
        displacement_representation(d4, [*FIVE, (0, 1)])
    with pytest.raises(ValueError, match=r"pairs \(row, column\).* got an array of shape \[3\]"):
        displacement_representation(d4, [1, 2, 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="got an array of shape"):
        displacement_representation(d4, [])
    with pytest.raises(ValueError, match=r"whole numbers; got 0\.5"):
        displacement_representation(d4, [(0.5, 0)])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"by multiples of 90 degrees .* its r turns by 360 / 6 degrees"):
        vector_representation(cyclic_group(6))
    with pytest.raises(ValueError, match="which S3 does not name"):
        vector_representation(symmetric_group(3))
    with pytest.raises(ValueError, match="the axes 'yx' are unknown; known: xy, xy-down, row-column"):
        vector_representation(d4, "yx")
