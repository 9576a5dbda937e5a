import pytest
import torch
from torch import Tensor, nn

from equirl import (
    Canonical,
    Equitune,
    FiniteGroup,
    assert_equivariant,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
)
from equirl.canonical import MinimalFrame
from equirl.displacements import displacement_representation
from equirl.groups import group_from_generators
from equirl.plane_groups import torus_group, torus_symmetries

FIVE = [(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0)]
TORI = [
    torus_symmetries(3, 3, dihedral_group(4)),
    torus_symmetries(4, 4, cyclic_group(4)),
    torus_symmetries(3, 5, dihedral_group(2)),
    torus_symmetries(2, 3, dihedral_group(1)),
    torus_symmetries(1, 4, cyclic_group(2)),
    torus_group(3, 4),
]


@pytest.fixture(scope="module")
def torus() -> FiniteGroup:
    return torus_symmetries(7, 7, dihedral_group(4))


@pytest.mark.parametrize("group", TORI, ids=str)
def test_axioms_hold(group: FiniteGroup) -> None:
    table, everyone = group.cayley, torch.arange(group.order)
    assert torch.equal(table[group.identity], everyone)
    assert bool((table[everyone, group.inverses] == group.identity).all())
    for g in range(group.order):  # (ag)b = a(gb) for all a, b
        assert torch.equal(table[table[:, g]], table[:, table[g]])


@pytest.mark.parametrize("group", TORI, ids=str)
def test_images_move_as_the_cells_do(group: FiniteGroup) -> None:
    cells = permutation_representation(group)
    height, width = {9: (3, 3), 16: (4, 4), 15: (3, 5), 6: (2, 3), 4: (1, 4), 12: (3, 4)}[cells.dim]
    images = image_representation(group, (2, height, width))
    x = torch.randn(1, 2, height, width)
    for g in range(group.order):
        moved = torch.stack([cells.transform(g, x[:, c].flatten(1)) for c in range(2)], dim=1)
        assert torch.equal(images.transform(g, x), moved.view_as(x))


def test_elements_are_what_their_names_say(torus: FiniteGroup) -> None:
    assert torus.order == 392
    assert [torus.element_names[g] for g in torus.generators] == ["down", "right", "r", "s"]
    images, x = image_representation(torus, (3, 7, 7)), torch.randn(2, 3, 7, 7)
    assert torch.equal(images.transform("down", x), x.roll(1, 2))
    assert torch.equal(images.transform("down2right5", x), x.roll((2, 5), (2, 3)))
    assert torch.equal(images.transform("rs", x), x.flip(3).rot90(1, (2, 3)))
    assert torch.equal(images.transform("down3right.r2", x), x.rot90(2, (2, 3)).roll((3, 1), (2, 3)))
    r, down = torus.index("r"), torus.index("down")
    conjugate = torus.multiply(torus.multiply(r, down), torus.inverse(r))
    assert torus.element_names[conjugate] == "right"  # down, turned counter-clockwise


def test_it_is_the_group_that_the_cells_generate(torus: FiniteGroup) -> None:
    assert torus.natural_action is not None
    generators = {torus.element_names[g]: torus.natural_action[g].tolist() for g in torus.generators}
    generated = group_from_generators(generators)
    assert generated.natural_action is not None
    assert {tuple(row) for row in generated.natural_action.tolist()} == {
        tuple(row) for row in torus.natural_action.tolist()
    }


def _states(n: int, channels: int = 2) -> Tensor:
    cells = torch.randint(49, (channels, n), generator=torch.Generator().manual_seed(0))
    states = torch.zeros(n, channels, 49)
    for c in range(channels):
        states[torch.arange(n), c, cells[c]] = 1
    return states.view(n, channels, 7, 7)


@pytest.mark.parametrize("method", [Equitune, Canonical])
@pytest.mark.parametrize("kind", ["grid", "noise", "blank"])
def test_networks_are_equivariant_at_order_392(torus: FiniteGroup, method: type[nn.Module], kind: str) -> None:
    torch.manual_seed(0)
    images, moves = image_representation(torus, (2, 7, 7)), displacement_representation(torus, FIVE)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(98, 32), nn.Tanh(), nn.Linear(32, 5))
    x = {"grid": _states(4), "noise": torch.randn(3, 2, 7, 7), "blank": torch.ones(1, 2, 7, 7)}[kind]
    assert_equivariant(method(backbone, images, moves), images, moves, x)
    assert equivariance_error(method(backbone, images, moves), images, moves, x) < 1e-5
    if kind != "blank":
        assert equivariance_error(backbone, images, moves, x) > 1e-2


def test_canonical_gives_every_state_of_an_orbit_one_view(torus: FiniteGroup) -> None:
    images = image_representation(torus, (2, 7, 7))
    module, x = Canonical(nn.Identity(), images, images), _states(60)
    choice = MinimalFrame(images).choose(x)
    stabilizers = (images.orbit(x) == x[:, None]).flatten(2).all(2).sum(1)
    assert torch.equal((choice.weights > 0).sum(1), stabilizers)
    assert stabilizers.max() > 1
    views = images.transform_each(choice.elements, x).flatten(1)
    # Agent and goal are apart by (dr, dc): up to turns and mirrors 10 pairs of distances on a torus of 7 x 7.
    assert len(views.unique(dim=0)) <= 10
    assert torch.allclose(module(x), x)


def test_mistakes_are_named() -> None:
    d4 = dihedral_group(4)
    with pytest.raises(ValueError, match="maps a 3 x 4 torus to 4 x 3"):
        torus_symmetries(3, 4, d4)
    with pytest.raises(ValueError, match="turns by 360 / 3 degrees"):
        torus_symmetries(3, 3, cyclic_group(3))
    with pytest.raises(ValueError, match="shifts already"):
        torus_symmetries(3, 3, torus_group(3, 3))
    with pytest.raises(ValueError, match="would have 8192 elements"):
        torus_symmetries(32, 32, d4)
    with pytest.raises(ValueError, match="would have 10000 elements"):
        torus_group(100, 100)
    with pytest.raises(TypeError, match="height of torus_group must be a whole number"):
        torus_group(3.0, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shifts a torus of 3 x 4 cells, but the image has 4 x 4"):
        image_representation(torus_group(3, 4), (1, 4, 4))


def test_one_state_at_a_time_is_chosen_as_in_a_batch(torus: FiniteGroup) -> None:
    images = image_representation(torus, (2, 7, 7))
    frame, x = MinimalFrame(images), _states(40)
    together = frame.choose(x)
    for n in range(len(x)):
        alone = frame.choose(x[n : n + 1])
        assert torch.equal(alone.weights[0], together.weights[n])
        assert (alone.only is None) == (int((together.weights[n] > 0).sum()) > 1)
    x[0, 0, 0, 0] = float("nan")
    assert bool((frame.choose(x[:1]).weights == 1 / 392).all())


def test_ties_are_told_from_near_ties_however_many_there_are(torus: FiniteGroup) -> None:
    images = image_representation(torus, (2, 7, 7))
    x = torch.ones(12, 2, 7, 7, dtype=torch.float64)  # 12 * 392 tied views: more than are compared at a time
    x[11, 0] = 1e15
    x[11, 1] = torch.arange(49.0).view(7, 7)  # drowns beside the first channel
    weights = MinimalFrame(images).choose(x).weights
    assert (weights > 0).sum(1).tolist() == [392] * 11 + [1]


def test_one_output_is_pulled_back_as_copies_of_it_are(torus: FiniteGroup) -> None:
    moves = displacement_representation(torus, FIVE)
    y, weights = torch.randn(6, 5), torch.rand(6, 392)
    copies = y.unsqueeze(1).expand(6, 392, 5)
    expected = sum(weights[:, g, None] * moves.transform(torus.inverse(g), y) for g in range(392))
    assert torch.allclose(moves.combine_one(y, weights), expected, rtol=1e-4)  # type: ignore[arg-type]
    assert torch.allclose(moves.combine(copies, weights), expected, rtol=1e-4)  # type: ignore[arg-type]
