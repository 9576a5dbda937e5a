import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equirl import FiniteGroup, cyclic_group, dihedral_group, symmetric_group
from equirl.groups import direct_product, group_from_generators

GROUPS = [
    cyclic_group(1),
    cyclic_group(2),
    cyclic_group(5),
    dihedral_group(1),
    dihedral_group(2),
    dihedral_group(4),
    symmetric_group(3),
    symmetric_group(4),
    direct_product(cyclic_group(2), dihedral_group(3)),
    group_from_generators({"a": [1, 0, 2, 3], "b": [0, 1, 3, 2]}),
]


@pytest.mark.parametrize("group", GROUPS, ids=str)
def test_axioms_hold(group: FiniteGroup) -> None:
    table = group.cayley
    everyone = torch.arange(group.order)
    assert torch.equal(table[group.identity], everyone)
    assert torch.equal(table[:, group.identity], everyone)
    assert bool((table[everyone, group.inverses] == group.identity).all())
    for a in range(group.order):
        for b in range(group.order):
            assert torch.equal(table[table[a, b]], table[a][table[b]])  # (ab)c = a(bc) for every c


@pytest.mark.parametrize(
    ("group", "order", "classes"),
    [
        (cyclic_group(6), 6, 6),  # abelian: every element is a class of its own
        (dihedral_group(4), 8, 5),
        (dihedral_group(3), 6, 3),
        (symmetric_group(4), 24, 5),  # the partitions of 4
        (symmetric_group(5), 120, 7),  # the partitions of 5
        (direct_product(cyclic_group(2), symmetric_group(3)), 12, 6),
    ],
    ids=str,
)
def test_order_and_conjugacy_classes_are_the_known_ones(group: FiniteGroup, order: int, classes: int) -> None:
    assert group.order == order
    assert len(group.conjugacy_classes()) == classes
    assert sum(len(members) for members in group.conjugacy_classes()) == order


def test_dihedral_relation() -> None:
    group = dihedral_group(4)
    assert group.multiply(group.multiply("s", "r"), "s") == group.index("r3")
    assert group.multiply("r", "s") == group.index("rs")
    assert group.inverse("r") == group.index("r3")
    assert group.inverse("rs") == group.index("rs")
    assert [group.element_order(g) for g in ("e", "r", "r2", "s")] == [1, 4, 2, 2]


def test_products_of_permutations_apply_the_right_one_first() -> None:
    group = group_from_generators({"swap": [1, 0, 2], "cycle": [1, 2, 0]})
    swap, cycle = group.index("102"), group.index("120")
    assert group.element_names[group.multiply(swap, cycle)] == "021"  # i -> cycle(i) -> swap(cycle(i))
    assert group.natural_action is not None
    assert torch.equal(
        group.natural_action[group.multiply(swap, cycle)], group.natural_action[swap][group.natural_action[cycle]]
    )


def test_subgroups() -> None:
    d4 = dihedral_group(4)
    assert d4.is_subgroup(["e", "r", "r2", "r3"])
    assert d4.is_subgroup(["e", "s"])
    assert not d4.is_subgroup(["e", "r"])
    assert not d4.is_subgroup(["s", "r2s"])  # no identity
    rotations = d4.subgroup(["e", "r", "r2", "r3"], name="C4")
    assert rotations == cyclic_group(4)
    assert len(d4.generated_by(["r2", "s"])) == 4
    with pytest.raises(ValueError, match=r"\{e, r\} is no subgroup of D4"):
        d4.subgroup(["e", "r"])


@given(st.integers(1, 6), st.integers(1, 4))
def test_direct_product_multiplies_componentwise(n: int, m: int) -> None:
    first, second = cyclic_group(n), dihedral_group(m)
    group = direct_product(first, second)
    for a in range(group.order):
        for b in range(group.order):
            g = first.multiply(a // second.order, b // second.order)
            h = second.multiply(a % second.order, b % second.order)
            assert group.multiply(a, b) == g * second.order + h


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([[0, 1], [1, 2]], r"not closed: a \* a = 2"),
        ([[1, 1], [1, 1]], "has no identity"),
        ([[0, 1], [1, 1]], "a has no unique inverse"),
        ([[0, 1, 2]], r"shape \[2, 2\], not \[1, 3\]"),
    ],
)
def test_a_table_that_is_no_group_is_refused(table: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteGroup("broken", ["e", "a"], table)


def test_a_loop_that_is_not_associative_is_refused() -> None:
    # A Latin square with identity and unique inverses: only associativity fails.
    table = [[0, 1, 2, 3, 4], [1, 0, 3, 4, 2], [2, 4, 0, 1, 3], [3, 2, 4, 0, 1], [4, 3, 1, 2, 0]]
    with pytest.raises(ValueError, match=r"not associative: \(\w \w\) \w differs from"):
        FiniteGroup("loop", list("eabcd"), table)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="C4 has no element 'r7'; its elements: e, r, r2, r3"):
        cyclic_group(4).index("r7")
    with pytest.raises(ValueError, match="names must be distinct"):
        FiniteGroup("twice", ["e", "e"], [[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=r"'a' = \[0, 0\] is not a permutation"):
        group_from_generators({"a": [0, 0]})
    with pytest.raises(ValueError, match="more than 1024 elements"):
        group_from_generators({"a": [1, 0, 2, 3, 4, 5, 6], "b": [1, 2, 3, 4, 5, 6, 0]})
    with pytest.raises(ValueError, match="n from 1 to 6, not 7"):
        symmetric_group(7)
    with pytest.raises(ValueError, match="whole number from 1; got 0"):
        cyclic_group(0)
    with pytest.raises(ValueError, match="do not generate"):
        FiniteGroup("C2", ["e", "r"], [[0, 1], [1, 0]], generators=["e"])
