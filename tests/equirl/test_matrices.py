"""Representations by matrices: laws, agreement with monomial ones, and theory's ranks."""

import pytest
import torch
from torch import nn

from equirl import Equitune, LambdaEquitune, cyclic_group, dihedral_group, equivariance_error, symmetric_group
from equirl.canonical import MinimalFrame
from equirl.constructions import (
    direct_sum,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    tensor_product,
    trivial_representation,
)
from equirl.matrices import (
    MatrixRepresentation,
    cyclic_irrep,
    dihedral_irrep,
    matrix_form,
    matrix_product,
    matrix_sum,
    plane_representation,
    standard_representation,
)
from equirl.symmetrization import Canonical, Equizero

IRREPS = {
    "C5, 0": cyclic_irrep(5, 0),
    "C5, 2": cyclic_irrep(5, 2),
    "C8, 4": cyclic_irrep(8, 4),
    "C8, 3": cyclic_irrep(8, 3),
    "D5, 2": dihedral_irrep(5, 2),
    "D6, 1": dihedral_irrep(6),
    "S4": standard_representation(4),
    "S3": standard_representation(3),
}


@pytest.mark.parametrize("name", list(IRREPS))
def test_laws(name: str) -> None:
    rep = IRREPS[name]
    order = rep.group.order
    x = torch.randn(6, *rep.shape)
    orbit = rep.orbit(x)
    for g in range(order):
        torch.testing.assert_close(orbit[:, g], rep.transform(g, x))
        for h in range(order):
            product = int(rep.group.cayley[g, h])
            torch.testing.assert_close(rep.transform(g, rep.transform(h, x)), rep.transform(product, x))
    torch.testing.assert_close(rep.pull_back(orbit), x.unsqueeze(1).expand_as(orbit))
    elements = torch.arange(6) % order
    moved = rep.transform(elements, x)
    torch.testing.assert_close(rep.pull_back_each(elements, moved), x)
    torch.testing.assert_close(moved.norm(dim=1), x.norm(dim=1))


@pytest.mark.parametrize("name", [name for name in IRREPS if name != "C5, 0"])
def test_an_irrep_is_irreducible_and_holds_nothing_trivial(name: str) -> None:
    character = IRREPS[name].character()
    assert float(character.mean()) == pytest.approx(0, abs=1e-6)
    norm = float(character.square().mean())
    # Over the reals a turn of a cyclic group is one irrep with two complex ones in it.
    two_complex = name.startswith("C") and IRREPS[name].dim == 2
    assert norm == pytest.approx(2 if two_complex else 1, abs=1e-5)


def projection(rep_in: MatrixRepresentation, rep_out: MatrixRepresentation) -> torch.Tensor:
    """Return the averaging projection of matrices, ``W -> 1/|G| sum g^-1 W g``, as a matrix."""
    out, given = rep_out.matrices(), rep_in.matrices()
    return torch.stack([torch.kron(a.T, b.T) for a, b in zip(out, given, strict=True)]).mean(dim=0)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (cyclic_irrep(7, 1), cyclic_irrep(7, 1)),
        (cyclic_irrep(7, 1), cyclic_irrep(7, 2)),
        (matrix_sum(cyclic_irrep(6, 1), cyclic_irrep(6, 3)), matrix_sum(cyclic_irrep(6, 3), cyclic_irrep(6, 1))),
        (dihedral_irrep(5, 1), matrix_product(dihedral_irrep(5, 1), dihedral_irrep(5, 2))),
        (standard_representation(4), matrix_form(permutation_representation(symmetric_group(4)))),
        (standard_representation(4), matrix_product(standard_representation(4), standard_representation(4))),
    ],
)
def test_the_rank_of_averaging_is_what_the_characters_say(
    first: MatrixRepresentation, second: MatrixRepresentation
) -> None:
    average = projection(first, second)
    torch.testing.assert_close(average @ average, average, atol=1e-5, rtol=0)
    expected = float((first.character() * second.character()).mean())
    assert int(torch.linalg.matrix_rank(average, tol=1e-4)) == pytest.approx(expected, abs=1e-4)
    # The same by symmetrizing a linear layer.
    layer = nn.Linear(first.dim, second.dim, bias=False)
    flat = MatrixRepresentation(second.group, second.matrices())
    module = Equitune(layer, first, flat)
    averaged = module(torch.eye(first.dim)).T
    torch.testing.assert_close((average @ layer.weight.flatten()).view_as(layer.weight), averaged)


def test_matrix_and_monomial_forms_agree() -> None:
    group = dihedral_group(4)
    image = image_representation(group, (2, 3, 3))
    signs = signed_permutation_representation(group, [[0]] * 8, [[1]] * 4 + [[-1]] * 4)
    for monomial, parts in (
        (image, matrix_form(image)),
        (direct_sum(image, signs), matrix_sum(image, signs)),
        (tensor_product(signs, image), matrix_product(signs, image)),
    ):
        x = torch.randn(5, *monomial.shape)
        torch.testing.assert_close(parts.orbit(x), monomial.orbit(x), atol=1e-6, rtol=0)
        views = monomial.orbit(x)
        torch.testing.assert_close(parts.pull_back(views), monomial.pull_back(views), atol=1e-6, rtol=0)
        torch.testing.assert_close(parts.character(), monomial.character().to(parts.character()))
        assert matrix_form(monomial).same_as(parts)


def test_quarter_turns_of_vectors_are_the_monomial_ones_to_the_last_bit() -> None:
    turns = plane_representation(4)
    by_hand = signed_permutation_representation(
        cyclic_group(4), [[0, 1], [1, 0], [0, 1], [1, 0]], [[1, 1], [1, -1], [-1, -1], [-1, 1]]
    )
    x = torch.randn(50, 2)
    assert turns.same_as(by_hand)
    assert torch.equal(matrix_form(turns).orbit(x), by_hand.orbit(x))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    assert torch.equal(Equitune(net, turns, turns)(x), Equitune(net, by_hand, by_hand)(x))


@pytest.mark.parametrize("method", [Equitune, LambdaEquitune, Equizero, Canonical])
def test_networks_turn_with_any_of_many_angles(method: type) -> None:
    group = cyclic_group(12)
    vectors = matrix_sum(plane_representation(12), plane_representation(12), trivial_representation(group, (1,)))
    out = matrix_sum(plane_representation(12), trivial_representation(group, (1,)))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 32), nn.Tanh(), nn.Linear(32, 3))
    module = method(net, vectors, out, **({"proxy_loss": "max_value"} if method is Equizero else {}))
    x = torch.randn(100, 5)
    assert equivariance_error(module, vectors, out, x) < 1e-5
    x[:3] = 0  # every element leaves these as they are
    assert equivariance_error(module, vectors, out, x) < 1e-5


def test_a_canonical_view_of_vectors_can_have_a_margin() -> None:
    vectors = matrix_sum(plane_representation(8), plane_representation(8))
    net = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))
    module = Canonical(net, vectors, vectors, margin=0.1)
    x = torch.randn(200, 4)
    assert equivariance_error(module, vectors, vectors, x) < 1e-5
    assert MinimalFrame(vectors, margin=0.1).choose_several(x) is not None


def test_mistakes_are_named() -> None:
    group = cyclic_group(3)
    turns = cyclic_irrep(3).matrices()
    with pytest.raises(ValueError, match="square matrix for each element"):
        MatrixRepresentation(group, turns[:2])
    with pytest.raises(ValueError, match="not orthogonal"):
        MatrixRepresentation(group, turns * 2)
    with pytest.raises(ValueError, match="not orthogonal"):
        MatrixRepresentation(group, turns * float("nan"))
    with pytest.raises(ValueError, match="is not rho"):
        MatrixRepresentation(group, turns[[0, 1, 1]])
    with pytest.raises(ValueError, match="frequencies"):
        cyclic_irrep(5, 3)
    with pytest.raises(ValueError, match="acts on"):
        cyclic_irrep(5).orbit(torch.zeros(3, 4))
    with pytest.raises(TypeError, match="real"):
        MatrixRepresentation(group, turns.to(torch.complex64))
    with pytest.raises(ValueError, match="same group"):
        matrix_sum(cyclic_irrep(3), cyclic_irrep(4))
