import pytest
import torch

from equirl import cyclic_group, dihedral_group, image_representation, permutation_representation, symmetric_group
from equirl.constructions import lift_representation
from equirl.groups import direct_product
from equirl.products import semidirect_product


@pytest.mark.parametrize("n", [3, 4, 5])
def test_a_cycle_that_a_flip_inverts_is_the_dihedral_group(n: int) -> None:
    cycle, flip = cyclic_group(n), cyclic_group(2)
    group = semidirect_product(cycle, flip, [list(range(n)), [-k % n for k in range(n)]])
    # r^k s^f has index k * 2 + f here and f * n + k there.
    there = [f * n + k for k in range(n) for f in range(2)]
    assert torch.equal(torch.tensor(there)[group.cayley], dihedral_group(n).cayley[there][:, there])
    assert group.element_names[:3] == ("e,e", "e,r", "r,e")


def test_with_the_action_that_does_nothing_it_is_the_direct_product() -> None:
    first, second = dihedral_group(3), cyclic_group(4)
    nothing = torch.arange(first.order).repeat(second.order, 1)
    assert semidirect_product(first, second, nothing) == direct_product(first, second)


def test_products_follow_the_formula() -> None:
    normal, acting = direct_product(cyclic_group(2), cyclic_group(2)), symmetric_group(3)
    assert acting.natural_action is not None
    swaps = torch.cat([torch.zeros(6, 1, dtype=torch.long), acting.natural_action + 1], dim=1)  # Aut(V4) is S3
    group = semidirect_product(normal, acting, swaps, name="S4")
    for a in range(group.order):
        for b in range(group.order):
            (n, h), (m, k) = divmod(a, 6), divmod(b, 6)
            assert group.multiply(a, b) == normal.multiply(n, int(swaps[h, m])) * 6 + acting.multiply(h, k)
    sizes = sorted(len(members) for members in group.conjugacy_classes())
    assert sizes == [1, 3, 6, 6, 8]  # those of S4


def test_what_is_no_action_is_named() -> None:
    c4, c2 = cyclic_group(4), cyclic_group(2)
    with pytest.raises(ValueError, match="r does not act on C4 by an automorphism"):
        semidirect_product(c4, c2, [[0, 1, 2, 3], [0, 2, 1, 3]])
    with pytest.raises(ValueError, match=r"by a table \[2, 4\]; got \[2, 3\]"):
        semidirect_product(c4, c2, [[0, 1, 2], [0, 1, 2]])
    with pytest.raises(ValueError, match="the action is no homomorphism: first r, then r is not r2"):
        semidirect_product(c4, c4, [[0, 1, 2, 3], [0, 1, 2, 3], [0, 3, 2, 1], [0, 3, 2, 1]])
    with pytest.raises(ValueError, match="the action is no homomorphism"):
        semidirect_product(c4, c2, [[0, 3, 2, 1], [0, 3, 2, 1]])
    with pytest.raises(ValueError, match="would have 5184 elements"):
        semidirect_product(
            direct_product(symmetric_group(4), cyclic_group(3)),
            direct_product(symmetric_group(4), cyclic_group(3)),
            [[0]],
        )
    with pytest.raises(TypeError, match="a factor of a product must be a FiniteGroup"):
        semidirect_product("C4", c2, [[0]])  # type: ignore[arg-type]


def test_a_representation_of_a_factor_becomes_one_of_the_product() -> None:
    turns, swaps = dihedral_group(4), symmetric_group(3)
    product = direct_product(turns, swaps)
    elements = torch.arange(product.order)
    images = lift_representation(image_representation(turns, (1, 3, 3)), product, elements // swaps.order)
    players = lift_representation(permutation_representation(swaps), product, elements % swaps.order)
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert torch.equal(images.transform("r,120", x), x.rot90(1, (2, 3)))
    assert players.transform("r,120", torch.tensor([[5.0, 6.0, 7.0]])).tolist() == [[7, 5, 6]]
    with pytest.raises(ValueError, match="no homomorphism from D4xS3 to S3: the product of"):
        lift_representation(permutation_representation(swaps), product, elements % 5)
    with pytest.raises(ValueError, match=r"a list of 48 indices in 0 .. 5; got the shape \[48\]"):
        lift_representation(permutation_representation(swaps), product, elements)
