import pytest
import torch
from torch import nn

from equirl import (
    Canonical,
    Equitune,
    TokenRepresentation,
    assert_equivariant,
    cyclic_group,
    dihedral_group,
    image_representation,
    symmetric_group,
)
from equirl.displacements import displacement_representation, vector_representation
from equirl.named_parts import (
    block_representation,
    dict_representation,
    flat_representation,
    part_places,
    pseudo_scalar_representation,
    repeated,
    space_representations,
)

D4 = dihedral_group(4)


def test_each_part_moves_by_its_kind() -> None:
    parts = {"battery": "scalar", "position": "vector", "spin": "pseudo-scalar", "heading": "axis"}
    rho = flat_representation(D4, parts)
    x = torch.tensor([[9.0, 2.0, 3.0, 5.0, 7.0]])
    assert rho.transform("r", x).tolist() == [[9, -3, 2, 5, 7]]
    assert rho.transform("s", x).tolist() == [[9, -2, 3, -5, -7]]
    assert rho.transform("rs", x).tolist() == [[9, -3, -2, -5, -7]]  # first s, then r
    places = part_places(D4, parts)
    assert places == {"battery": slice(0, 1), "position": slice(1, 3), "spin": slice(3, 4), "heading": slice(4, 5)}


def test_matrices_compose_and_the_pseudo_scalar_is_the_determinant() -> None:
    rho = flat_representation(D4, {"a": "vector", "b": "axis"})
    matrices = rho.matrices()
    for g in range(D4.order):
        for h in range(D4.order):
            assert torch.equal(matrices[g] @ matrices[h], matrices[D4.multiply(g, h)])
        assert torch.linalg.det(matrices[g, :2, :2]) == matrices[g, 2, 2]


def test_flat_images_and_blocks() -> None:
    # Four legs at the corners of a square, each with a velocity and the angle of a joint.
    legs = block_representation(D4, None, {"velocity": "vector", "joint": "axis"})
    image = image_representation(D4, (1, 2, 2))
    rho = flat_representation(D4, {"camera": image, "legs": legs, "goals": repeated(vector_representation(D4), 2)})
    x = torch.arange(1.0, 21.0).view(1, 20)
    turned = rho.transform("r", x)[0]
    assert turned[:4].tolist() == [2, 4, 1, 3]
    assert turned[4:].tolist() == [-15, 14, 16, -6, 5, 7, -9, 8, 10, -12, 11, 13, -18, 17, -20, 19]
    net = nn.Sequential(nn.Linear(20, 16), nn.Tanh(), nn.Linear(16, 4))
    moves = displacement_representation(D4, [(0, 1), (1, 0), (0, -1), (-1, 0)])
    for method in (Equitune, Canonical):
        assert_equivariant(method(net, rho, moves), rho, moves, torch.randn(20, 20))


def test_dicts_keep_images_and_tokens_as_they_are() -> None:
    facing = TokenRepresentation(D4, D4.natural_action, ())  # type: ignore[arg-type]
    rho = dict_representation(D4, {"image": image_representation(D4, (1, 3, 3)), "speed": "vector", "facing": facing})
    assert rho.shape == {"image": (1, 3, 3), "speed": (2,), "facing": ()}
    x = {"image": torch.randn(2, 1, 3, 3), "speed": torch.tensor([[1.0, 0], [0, 1]]), "facing": torch.tensor([0, 3])}
    turned = rho.transform("r", x)
    assert isinstance(turned, dict)
    assert torch.equal(turned["image"], x["image"].rot90(1, (2, 3)))
    assert turned["speed"].tolist() == [[0, 1], [-1, 0]]
    assert turned["facing"].tolist() == [1, 0]


def test_mirrors_of_space() -> None:
    mirror = cyclic_group(2)  # generator r, here the mirror of a robot that looks along x
    vectors, axes = space_representations(mirror, {"r": "xz"})
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert vectors.transform("r", x).tolist() == [[1, -2, 3]]
    assert axes.transform("r", x).tolist() == [[-1, 2, -3]]  # leaning forwards stays, rolling and yawing turn round

    vectors, axes = space_representations(D4, {"s": "yz"})
    assert vectors.transform("r", x).tolist() == [[-2, 1, 3]]
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    for g in range(D4.order):  # the cross product of two vectors is an axis
        turned = vectors.transform(g, a).cross(vectors.transform(g, b), dim=1)
        assert torch.allclose(turned, axes.transform(g, a.cross(b, dim=1)))
    both = flat_representation(D4, {"velocity": vectors, "angular velocity": axes})
    assert both.shape == (6,)


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"part 'v': kind 'vektor' is unknown; known: .* Did you mean 'vector'"):
        flat_representation(D4, {"v": "vektor"})
    with pytest.raises(TypeError, match="part 'v' is a kind in words or a representation; got 3"):
        flat_representation(D4, {"v": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="at least one part"):
        dict_representation(D4, {})
    with pytest.raises(TypeError, match=r"part 'word' is a TokenRepresentation.* use dict_representation"):
        flat_representation(D4, {"word": TokenRepresentation(D4, D4.natural_action, ())})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="part 'v' represents C4, the observation D4"):
        flat_representation(D4, {"v": vector_representation(cyclic_group(4))})
    with pytest.raises(ValueError, match="turns by 360 / 8 degrees"):
        flat_representation(dihedral_group(8), {"v": "vector"})
    with pytest.raises(ValueError, match="which S3 does not name"):
        pseudo_scalar_representation(symmetric_group(3))
    with pytest.raises(ValueError, match="plane 'zz' is unknown"):
        space_representations(D4, {"s": "zz"})
    with pytest.raises(ValueError, match=r"generated by 's' \(of order 2\), for which mirrors gives no plane"):
        space_representations(D4, {})
    with pytest.raises(ValueError, match="no homomorphism"):
        space_representations(cyclic_group(3), {"r": "xz"})
