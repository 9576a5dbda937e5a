import copy
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import (
    Canonical,
    Equitune,
    MappingRepresentation,
    Representation,
    Symmetrized,
    TokenRepresentation,
    assert_equivariant,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    symmetric_group,
    trivial_representation,
)
from equirl.canonical import MinimalFrame
from equirl.constructions import regular_representation


class _CountsRows(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.module(x)  # type: ignore[no-any-return]


def _grid_states(n: int, size: int = 5, seed: int = 0) -> Tensor:
    cells = torch.randint(size * size, (2, n), generator=torch.Generator().manual_seed(seed))
    states = torch.zeros(n, 3, size * size)
    states[torch.arange(n), 0, cells[0]] = states[torch.arange(n), 1, cells[1]] = 1
    return states.view(n, 3, size, size)


def test_the_backbone_sees_one_row_per_input() -> None:
    group = dihedral_group(4)
    backbone = _CountsRows(nn.Sequential(nn.Flatten(), nn.Linear(75, 8)))
    module = Canonical(backbone, image_representation(group, (3, 5, 5)), regular_representation(group))
    assert module(_grid_states(30)).shape == (30, 8)
    assert backbone.rows == [1, 30]  # the first to measure how large activations are


@given(st.integers(0, 10_000))
def test_all_views_of_an_input_become_one(seed: int) -> None:
    group = dihedral_group(4)
    rho = image_representation(group, (3, 5, 5))
    module = Canonical(nn.Identity(), rho, rho)
    states = _grid_states(16, seed=seed)
    frame = MinimalFrame(rho)
    chosen = [
        rho.transform(frame.choose(rho.transform(g, states)).elements, rho.transform(g, states)) for g in range(8)
    ]
    for view in chosen[1:]:
        assert torch.equal(view, chosen[0])
    # The identity, symmetrized, is the identity.
    assert torch.allclose(module(states), states)


def test_ties_are_the_elements_that_leave_the_input_fixed() -> None:
    rho = image_representation(dihedral_group(4), (3, 5, 5))
    states = _grid_states(200)
    orbit = rho.orbit(states)
    stabilizer = (orbit == states[:, None]).flatten(2).all(2).sum(1)
    weights = MinimalFrame(rho).choose(states).weights
    assert torch.equal((weights > 0).sum(1), stabilizer)
    assert stabilizer.max() > 1
    assert bool((stabilizer == 1).any())


def test_one_input_at_a_time_chooses_alike() -> None:
    frame, states = MinimalFrame(image_representation(dihedral_group(4), (3, 5, 5))), _grid_states(100)
    together = frame.choose(states)
    for n, state in enumerate(states):
        alone = frame.choose(state[None])
        assert torch.equal(alone.weights[0], together.weights[n])
        assert together.weights[n, alone.elements] > 0
        assert (alone.only is not None) == (int((together.weights[n] > 0).sum()) == 1)
        assert alone.only in (None, int(alone.elements))


def test_one_view_and_the_whole_orbit_give_the_same() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    rho, out = image_representation(group, (3, 5, 5)), regular_representation(group)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(75, 8))
    module = Canonical(backbone, rho, out)
    states = _grid_states(100)
    assert torch.allclose(module(states), module.aggregator(module.evaluate_orbit(states)), atol=1e-6)
    assert torch.allclose(torch.cat([module(state[None]) for state in states]), module(states), atol=1e-6)


def test_half_precision_takes_nothing_from_the_choice() -> None:
    rho = image_representation(cyclic_group(4), (3, 5, 5))
    frame, states = MinimalFrame(rho), _grid_states(300)
    expected = frame.choose(states).elements
    assert torch.equal(frame.half().choose(states).elements, expected)


def test_another_seed_chooses_otherwise() -> None:
    rho, states = image_representation(cyclic_group(4), (3, 5, 5)), _grid_states(100)
    one, other = (MinimalFrame(rho, seed).choose(states).elements for seed in (0, 1))
    assert not torch.equal(one, other)
    assert torch.equal(one, MinimalFrame(rho, 0).choose(states).elements)


def test_signs_tokens_and_dicts() -> None:
    torch.manual_seed(0)
    mirror = cyclic_group(2)
    vector = signed_permutation_representation(mirror, [[0, 1, 2, 3]] * 2, [[1] * 4, [-1] * 4])
    action = permutation_representation(mirror, [[0, 1], [1, 0]])
    assert_equivariant(Canonical(nn.Linear(4, 2), vector, action), vector, action, torch.randn(50, 4))

    group = symmetric_group(4)
    tokens = TokenRepresentation(group, [[*p, 4, 5] for p in group.natural_action.tolist()])  # type: ignore[union-attr]
    sequences = torch.randint(0, 6, (100, 5))
    embedded = nn.Sequential(nn.Embedding(6, 8), nn.Flatten(), nn.Linear(40, 6))
    assert_equivariant(Canonical(embedded, tokens, tokens.on_logits()), tokens, tokens.on_logits(), sequences)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 2)

        def forward(self, x: dict[str, Tensor]) -> Tensor:
            return self.layer(torch.cat([x["a"], x["b"]], dim=1))  # type: ignore[no-any-return]

    parts = MappingRepresentation({"b": action, "a": vector})
    x = {"a": torch.randn(40, 4), "b": torch.randn(40, 2)}
    x["a"][:10] = 0  # only b tells the views apart
    assert_equivariant(Canonical(Both(), parts, action), parts, action, x)


def test_a_representation_of_another_kind_is_projected_view_by_view() -> None:
    rho = permutation_representation(symmetric_group(3))

    class Other(Representation):
        def __init__(self) -> None:
            super().__init__()
            self.group, self.shape, self.inner = rho.group, rho.shape, rho

        def orbit(self, x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return self.inner.orbit(x)

        def pull_back(self, y):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return self.inner.pull_back(y)

        def transform(self, g, x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return self.inner.transform(g, x)

        def same_as(self, other: Representation) -> bool:
            return self is other

    other = Other()
    assert equivariance_error(Canonical(nn.Linear(3, 3), other, rho), other, rho, torch.randn(20, 3)) < 1e-5


def test_gradients_reach_the_backbone_and_the_input() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    rho, out = image_representation(group, (1, 4, 4)), trivial_representation(group, (1,))
    layer = nn.Linear(16, 1)
    module: Symmetrized = Canonical(nn.Sequential(nn.Flatten(), layer), rho, out)
    x = torch.randn(6, 1, 4, 4, requires_grad=True)
    module(x).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.weight.grad is not None
    assert x.grad is not None
    # Each input is one permutation of the weights' gradient away.
    assert torch.allclose(x.grad.flatten(1).sort(1).values, layer.weight.detach().sort(1).values.expand(6, -1))


def test_the_group_must_be_one() -> None:
    with pytest.raises(ValueError, match="from the same FiniteGroup"):
        Canonical(
            nn.Linear(2, 2),
            permutation_representation(cyclic_group(2)),
            trivial_representation(cyclic_group(4), (2,)),
        )


def test_bytes_and_floats_choose_alike() -> None:
    frame, states = MinimalFrame(image_representation(dihedral_group(4), (3, 5, 5))), _grid_states(100)
    assert torch.equal(frame.choose(states.to(torch.uint8)).elements, frame.choose(states).elements)
    assert torch.equal(frame.choose(states.to(torch.uint8)).weights, frame.choose(states).weights)


def test_a_step_of_the_agent_rarely_turns_the_view() -> None:
    # Independent numbers would turn it in about seven of eight steps.
    frame = MinimalFrame(image_representation(dihedral_group(4), (3, 7, 7)))
    random = torch.Generator().manual_seed(0)
    row, goal = torch.randint(7, (400,), generator=random), torch.randint(49, (400,), generator=random)
    column = torch.randint(6, (400,), generator=random)
    views = []
    for step in (0, 1):
        states = torch.zeros(400, 3, 49)
        states[torch.arange(400), 0, 7 * row + column + step] = 1
        states[torch.arange(400), 1, goal] = 1
        views.append(frame.choose(states.view(400, 3, 7, 7)).elements)
    assert (views[0] != views[1]).float().mean() < 0.4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("batch", [1, 2])
def test_what_is_no_number_is_handed_on(value: float, batch: int) -> None:
    swap = permutation_representation(cyclic_group(2))
    module = Canonical(nn.Linear(2, 2), swap, swap)
    x = torch.ones(batch, 2)
    x[0, 0] = value
    out = module(x)
    assert not out[0].isfinite().all()
    assert out[1:].isfinite().all()
    assert module(torch.empty(0, 2)).shape == (0, 2)


@pytest.mark.parametrize("recorded", [False, True])
def test_gradients_on_symmetric_inputs_are_those_of_the_average(recorded: bool) -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    images, moves = image_representation(group, (1, 4, 4)), permutation_representation(group)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4)).double()
    x = torch.randn(6, 1, 4, 4, dtype=torch.float64)
    x[0] = images.orbit(x[:1])[0].mean(dim=0)  # all views alike
    x[1] = x[1] + x[1].flip(2)  # pairs of views alike
    canonical, equitune = Canonical(net, images, moves), Equitune(net, images, moves)

    def gradient(module: nn.Module, at: torch.Tensor) -> torch.Tensor:
        if recorded:
            return torch.func.grad(lambda z: module(z).square().sum())(at)
        at = at.clone().requires_grad_()
        return torch.autograd.grad(module(at).square().sum(), at)[0]

    assert torch.allclose(gradient(canonical, x[:1]), gradient(equitune, x[:1]), atol=1e-12)
    for g in range(group.order):  # f(gx) = g f(x) and an invariant loss make the gradient equivariant
        moved = images.transform(g, x)
        assert isinstance(moved, torch.Tensor)
        expected = images.transform(g, gradient(canonical, x))
        assert isinstance(expected, torch.Tensor)
        assert torch.allclose(gradient(canonical, moved), expected, atol=1e-10)


def test_imaginary_parts_tell_views_apart() -> None:
    rho = permutation_representation(cyclic_group(4))
    x = 1j * torch.randn(5, 4, dtype=torch.float64)
    chosen = MinimalFrame(rho).choose(x.to(torch.complex128)).weights
    assert (chosen.amax(dim=1) == 1).all()  # not one of all


def test_a_dict_with_one_entry_picks_as_the_entry_alone() -> None:
    group = dihedral_group(4)
    images = image_representation(group, (2, 5, 5))
    x = torch.randn(20, 2, 5, 5)
    alone, wrapped = MinimalFrame(images), MinimalFrame(MappingRepresentation({"image": images}))
    assert torch.equal(alone.choose(x).elements, wrapped.choose({"image": x}).elements)


def test_the_ensemble_of_torchs_own_recipe_agrees_with_its_members() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    images, moves = image_representation(group, (1, 4, 4)), permutation_representation(group)
    members = [Canonical(nn.Sequential(nn.Flatten(), nn.Linear(16, 4)), images, moves) for _ in range(3)]
    x = torch.randn(3, 1, 4, 4)
    parameters, buffers = torch.func.stack_module_state(cast(Any, members))

    def one(p: Any, b: Any) -> Any:
        return torch.func.functional_call(members[0], (p, b), (x,))

    together = torch.func.vmap(one)(parameters, buffers)
    assert torch.allclose(together, torch.stack([member(x) for member in members]), atol=1e-5)
    assert torch.allclose(copy.deepcopy(members[0])(x), members[0](x))
    each = torch.func.vmap(lambda row: members[1](row.unsqueeze(0))[0])(x)  # one row looks at no other's choice
    assert torch.allclose(each, members[1](x), atol=1e-5)


def test_small_differences_beside_large_numbers_are_no_tie() -> None:
    rho = permutation_representation(cyclic_group(3), [[0, 1, 2, 3], [1, 2, 0, 3], [2, 0, 1, 3]])
    x = torch.tensor([[1.0, 2.0, 3.0, 1e15], [1.0, 1.0, 1.0, 1e15]], dtype=torch.float64)
    for rows in (x, x[:1]):
        assert (MinimalFrame(rho).choose(rows).weights[0] > 0).sum() == 1
    assert torch.allclose(MinimalFrame(rho).choose(x).weights[1], torch.full((3,), 1 / 3))  # equal views do tie
