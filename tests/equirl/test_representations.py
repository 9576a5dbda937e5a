import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from equirl import (
    FiniteGroup,
    MappingRepresentation,
    MonomialRepresentation,
    TokenRepresentation,
    cyclic_group,
    dihedral_group,
    image_representation,
    permutation_representation,
    representation_from_generators,
    signed_permutation_representation,
    symmetric_group,
    tensor_product,
    trivial_representation,
)
from equirl.constructions import channel_representation, direct_sum, regular_representation

C2, C4, D4, S3 = cyclic_group(2), cyclic_group(4), dihedral_group(4), symmetric_group(3)

REPRESENTATIONS = {
    "trivial": trivial_representation(C4, (2, 3)),
    "natural C4": permutation_representation(C4),
    "natural D4": permutation_representation(D4),
    "natural S3": permutation_representation(S3),
    "sign": signed_permutation_representation(C2, [[0, 1, 2], [0, 1, 2]], [[1, 1, 1], [1, -1, -1]]),
    "signed swap": signed_permutation_representation(C2, [[0, 1], [1, 0]], [[1, 1], [-1, -1]]),
    "regular S3": regular_representation(S3),
    "image C4": image_representation(C4, (2, 5, 5)),
    "image D4": image_representation(D4, (1, 4, 4)),
    "image D2": image_representation(dihedral_group(2), (2, 3, 5)),
    "channels": channel_representation(C4, (4, 3), C4.natural_action),
    "direct sum": direct_sum(permutation_representation(D4), trivial_representation(D4, (2,))),
    "tensor": tensor_product(permutation_representation(S3), trivial_representation(S3, (2,))),
    "image x directions": tensor_product(permutation_representation(D4), image_representation(D4, (1, 3, 3))),
}
each = pytest.mark.parametrize("rho", REPRESENTATIONS.values(), ids=REPRESENTATIONS)


@each
def test_homomorphism(rho: MonomialRepresentation) -> None:
    group = rho.group
    x = torch.randn(3, *rho.shape, dtype=torch.float64)
    for g in range(group.order):
        for h in range(group.order):
            assert torch.equal(rho.transform(g, rho.transform(h, x)), rho.transform(group.multiply(g, h), x))


@each
def test_orbit_apply_matrices_and_pull_back_agree(rho: MonomialRepresentation) -> None:
    x = torch.randn(3, *rho.shape)
    orbit = rho.orbit(x)
    assert orbit.shape == (3, rho.group.order, *rho.shape)
    matrices = rho.matrices()
    for g in range(rho.group.order):
        assert torch.equal(orbit[:, g], rho.transform(g, x))
        assert torch.allclose(orbit[:, g].flatten(1), x.flatten(1) @ matrices[g].T)
    assert torch.equal(rho.pull_back(orbit), x[:, None].expand_as(orbit))
    assert torch.allclose(rho.character(), torch.einsum("gii->g", matrices))


@each
def test_an_element_for_each_sample(rho: MonomialRepresentation) -> None:
    x = torch.randn(9, *rho.shape)
    elements = torch.randint(rho.group.order, (9,))
    assert torch.equal(rho.transform(elements, x), rho.orbit(x)[torch.arange(9), elements])
    with pytest.raises(ValueError, match=r"elements per sample are integers \[9\]"):
        rho.transform(elements + rho.group.order, x)


def test_image_representation_is_rot90_and_flip() -> None:
    x = torch.randn(2, 3, 6, 6)
    orbit = image_representation(D4, (3, 6, 6)).orbit(x)
    for k, name in enumerate(["e", "r", "r2", "r3"]):
        assert torch.equal(orbit[:, D4.index(name)], torch.rot90(x, k, (2, 3)))
        mirrored = torch.rot90(x.flip(3), k, (2, 3))
        assert torch.equal(orbit[:, D4.index("s" if k == 0 else name.replace("e", "") + "s")], mirrored)
    half = image_representation(cyclic_group(2), (3, 6, 4)).orbit(x[..., :4])
    assert torch.equal(half[:, 1], torch.rot90(x[..., :4], 2, (2, 3)))


def test_regular_character_is_order_at_identity_and_zero_elsewhere() -> None:
    character = regular_representation(symmetric_group(4)).character()
    assert character[0] == 24
    assert bool((character[1:] == 0).all())


def test_characters_add_and_multiply() -> None:
    a, b = permutation_representation(D4), regular_representation(D4)
    assert torch.equal(direct_sum(a, b).character(), a.character() + b.character())
    assert torch.equal(tensor_product(a, b).character(), a.character() * b.character())


@given(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64]))
def test_dtypes_survive_where_no_sign_changes(dtype: torch.dtype) -> None:
    x = torch.arange(12).view(3, 4).to(dtype)
    assert permutation_representation(C4).orbit(x).dtype == dtype
    signed = signed_permutation_representation(C2, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4]).orbit(x)
    assert signed.dtype == (dtype if dtype.is_floating_point else torch.float32)
    assert torch.equal(signed[:, 1].double(), -x.double())


def test_tokens_act_on_values_and_their_logits_follow() -> None:
    group = symmetric_group(3)  # forward and inverse action differ: a 3-cycle is not its own inverse
    assert group.natural_action is not None
    table = torch.cat([group.natural_action, torch.full((6, 1), 3)], dim=1)  # value 3 is left alone
    rho = TokenRepresentation(group, table)
    x = torch.randint(4, (5, 7))
    orbit = rho.orbit(x)
    for g in range(6):
        assert torch.equal(orbit[:, g], table[g][x])
        for h in range(6):
            assert torch.equal(rho.transform(g, rho.transform(h, x)), rho.transform(group.multiply(g, h), x))
    assert torch.equal(rho.pull_back(orbit), x[:, None].expand_as(orbit))
    elements = torch.randint(6, (5,))
    assert torch.equal(rho.transform(elements, x), orbit[torch.arange(5), elements])
    one_hot = nn.functional.one_hot(x[:, 0], 4).float()
    logits = rho.on_logits()
    for g in range(6):
        assert torch.equal(logits.transform(g, one_hot), nn.functional.one_hot(table[g][x[:, 0]], 4).float())


def test_mapping_acts_on_each_entry() -> None:
    rho = MappingRepresentation(
        {"image": image_representation(D4, (1, 3, 3)), "compass": permutation_representation(D4)}
    )
    x = {"image": torch.randn(2, 1, 3, 3), "compass": torch.randn(2, 4)}
    orbit = rho.orbit(x)
    assert torch.equal(orbit["image"], rho.part("image").orbit(x["image"]))
    assert torch.equal(rho.pull_back(orbit)["compass"][:, 5], x["compass"])
    assert torch.equal(rho.transform("r", x)["compass"], x["compass"].roll(1, 1))
    with pytest.raises(ValueError, match=r"dict with the keys \['compass', 'image'\]; got the keys \['image'\]"):
        rho.orbit({"image": x["image"]})


def test_module_apply_still_reaches_children() -> None:
    seen: list[str] = []
    nn.Sequential(nn.Linear(2, 2), permutation_representation(C4)).apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "MonomialRepresentation", "Sequential"]


def test_tables_follow_the_module_and_stay_out_of_the_state_dict() -> None:
    rho = signed_permutation_representation(C2, [[0, 1], [1, 0]], [[1, 1], [-1, -1]])
    assert rho.state_dict() == {}
    assert all(buffer.device.type == "meta" for buffer in rho.to("meta").buffers())


def test_same_as_compares_group_shape_and_tables() -> None:
    assert image_representation(D4, (1, 3, 3)).same_as(image_representation(dihedral_group(4), (1, 3, 3)))
    assert not image_representation(D4, (1, 3, 3)).same_as(image_representation(C4, (1, 3, 3)))
    assert not image_representation(D4, (1, 3, 3)).same_as(trivial_representation(D4, (1, 3, 3)))


def _wrong_table() -> torch.Tensor:
    table = torch.stack([torch.arange(4).roll(k) for k in range(4)])
    table[2] = table[1]
    return table


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MonomialRepresentation(C4, (4,), _wrong_table()), r"no homomorphism: rho\(r\) rho\(r\) is not rho"),
        (lambda: MonomialRepresentation(C4, (5,), _wrong_table()), r"on 5 coordinates needs .* \[4, 5\]; got \[4, 4\]"),
        (lambda: MonomialRepresentation(C2, (2,), [[0, 1], [0, 0]]), r"row of r, \[0, 0\], is not a permutation"),
        (
            lambda: signed_permutation_representation(C2, [[0, 1]] * 2, [[1, 1], [2, 1]]),
            "signs are .1 or -1; r has 2 at coordinate 0",
        ),
        (
            lambda: signed_permutation_representation(cyclic_group(3), [[0]] * 3, [[1], [-1], [-1]]),
            "no homomorphism",
        ),
        (lambda: image_representation(C4, (3, 4, 6)), "quarter turn, which maps a 4 x 6 image to 6 x 4"),
        (lambda: image_representation(cyclic_group(8), (3, 4, 4)), "multiples of 90 degrees .* C8 does not"),
        (lambda: image_representation(S3, (3, 4, 4)), "S3 does not"),
        (lambda: image_representation(C4, (4, 4)), r"acts on \[C, H, W\]; got the shape \[4, 4\]"),
        (lambda: channel_representation(C4, (3, 5), C4.natural_action), r"permutes 4 channels, but the shape \[3, 5\]"),
        (lambda: direct_sum(trivial_representation(C2, (1,)), trivial_representation(C4, (1,))), "C2, another C4"),
        (lambda: TokenRepresentation(C2, [[0, 1, 2], [1, 2, 0]]), "no homomorphism"),
        (
            lambda: representation_from_generators(D4, (2,), {"r": (torch.arange(2), None)}),
            "which do not generate D4",
        ),
        (
            lambda: permutation_representation(FiniteGroup("C2", ["e", "a"], [[0, 1], [1, 0]])),
            "C2 has no natural action",
        ),
    ],
)
def test_mistakes_in_construction_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"C4 acts on \[batch, 4\]; got torch.float32 \[2, 5\]"):
        permutation_representation(C4).orbit(torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"acts on \[batch, 4, 4\]; got"):
        permutation_representation(C4).pull_back(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="tokens from 0 to 9 do not fit a vocabulary of 2 values"):
        TokenRepresentation(C2, [[0, 1], [1, 0]]).orbit(torch.tensor([[0, 9]]))
    with pytest.raises(ValueError, match=r"acts on integers"):
        TokenRepresentation(C2, [[0, 1], [1, 0]]).orbit(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="C4 has no element 'x'"):
        permutation_representation(C4).transform("x", torch.zeros(1, 4))


def test_a_pickle_has_the_tables_and_nothing_made_from_them() -> None:
    rep = image_representation(dihedral_group(4), (1, 3, 3))
    state = rep.__getstate__()
    assert "_hot" not in state
    again = pickle.loads(pickle.dumps(rep))
    x = torch.randn(1, 1, 3, 3)
    assert torch.equal(again.orbit(x), rep.orbit(x))
    assert again.same_as(copy.deepcopy(rep))


def test_combine_takes_tensors_of_any_strides() -> None:
    rho = permutation_representation(dihedral_group(4))
    y, weights = torch.rand(8, 5, 4).transpose(0, 1), torch.rand(8, 5).T
    assert torch.equal(rho.combine(y, weights), rho.combine(y.contiguous(), weights.contiguous()))
