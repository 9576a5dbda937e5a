import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import (
    Canonical,
    MappingRepresentation,
    MinimalFrame,
    Representation,
    Symmetrized,
    TokenRepresentation,
    assert_equivariant,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
    regular_representation,
    signed_permutation_representation,
    symmetric_group,
    trivial_representation,
)


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
    assert backbone.rows == [30]


@given(st.integers(0, 10_000))
def test_all_views_of_an_input_become_one(seed: int) -> None:
    group = dihedral_group(4)
    rho = image_representation(group, (3, 5, 5))
    module = Canonical(nn.Identity(), rho, rho)
    states = _grid_states(16, seed=seed)
    frame = MinimalFrame(rho)
    chosen = [rho.apply(frame.choose(rho.apply(g, states)).elements, rho.apply(g, states)) for g in range(8)]
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

        def _apply_element(self, g, x):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
            return self.inner.apply(g, x)

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
