from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from equirl import (
    Canonical,
    Equitune,
    Equizero,
    FiniteGroup,
    LambdaEquitune,
    MappingRepresentation,
    MonomialRepresentation,
    Symmetrized,
    TokenRepresentation,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
    symmetric_group,
    tensor_product,
    trivial_representation,
)
from equirl.aggregators import Mean, Select, Weighted, weight_network
from equirl.constructions import regular_representation
from equirl.orbit import Orbit

METHODS: dict[str, Callable[..., Symmetrized]] = {
    "equitune": Equitune,
    "lambda, features": lambda m, a, b: LambdaEquitune(m, a, b, network=_random_network(b.dim)),
    "lambda, inputs": lambda m, a, b: LambdaEquitune(m, a, b, reads="inputs", network=_random_network(a.dim)),
    "equizero, max_value": Equizero,
    "equizero, entropy": lambda m, a, b: Equizero(m, a, b, proxy_loss="entropy"),
    "equizero, straight_through": lambda m, a, b: Equizero(m, a, b, gradient="straight_through"),
    "canonical": Canonical,
    "equizero, own": lambda m, a, b: Equizero(m, a, b, proxy_loss=lambda orbit: orbit.outputs.flatten(2).sum(2)),
}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)

GROUPS = {str(g): g for g in (cyclic_group(1), cyclic_group(3), dihedral_group(4), symmetric_group(3))}


def _random_network(inputs: int) -> nn.Sequential:
    # The usual λ-network starts constant, which would make λ-equitune plain equitune here.
    network = weight_network(inputs, (16,))
    nn.init.normal_(network[-1].weight)
    return network


def _backbone(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 24), nn.Tanh(), nn.Linear(24, outputs))


@each_method
@given(
    st.sampled_from(sorted(GROUPS)),
    st.integers(1, 4),
    st.sampled_from([(torch.float32, 1e-5), (torch.float64, 1e-12)]),
    st.integers(0, 1000),
)
def test_every_method_is_equivariant_where_the_backbone_is_not(
    make: Callable[..., Symmetrized], group_name: str, channels: int, precision: tuple[torch.dtype, float], seed: int
) -> None:
    torch.manual_seed(seed)
    group, (dtype, tolerance) = GROUPS[group_name], precision
    rho_in = tensor_product(regular_representation(group), trivial_representation(group, (channels,)))
    rho_out = permutation_representation(group)
    backbone = _backbone(rho_in.dim, rho_out.dim)
    x = torch.randn(6, *rho_in.shape, dtype=dtype)

    error = equivariance_error(make(backbone, rho_in, rho_out).to(dtype), rho_in, rho_out, x)

    assert error < tolerance
    if group.order > 1:  # the check has power: it rejects the bare backbone
        assert equivariance_error(backbone, rho_in, rho_out, x) > 1e-2


@each_method
def test_inputs_that_a_group_element_leaves_fixed(make: Callable[..., Symmetrized]) -> None:
    torch.manual_seed(1)
    group = dihedral_group(4)
    rho_in, rho_out = image_representation(group, (2, 5, 5)), permutation_representation(group)
    x = torch.zeros(4, 2, 5, 5)
    x[0, 0, 2, 2] = x[0, 1, 2, 2] = 1  # fixed by all of D4
    x[1, 0, 2, 1] = x[1, 1, 2, 4] = 1  # fixed by the up-down mirror
    x[2, 0, 0, 0] = x[2, 1, 3, 3] = 1  # fixed by a diagonal mirror
    # x[3] is empty
    backbone = _backbone(rho_in.dim, rho_out.dim)

    assert equivariance_error(make(backbone, rho_in, rho_out), rho_in, rho_out, x) < 1e-5
    assert equivariance_error(backbone, rho_in, rho_out, x) > 1e-2


def test_picking_one_of_the_tied_elements_would_not_be_equivariant() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    rho_in, rho_out = image_representation(group, (1, 5, 5)), permutation_representation(group)
    backbone = _backbone(rho_in.dim, rho_out.dim)
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 1] = 1

    class FirstMinimum(Select):
        def weights(self, orbit: Orbit) -> Tensor:
            return nn.functional.one_hot(self.proxy_loss(orbit).argmin(dim=1), orbit.outputs.shape[1]).float()

    first_minimum = Symmetrized(backbone, rho_in, rho_out, FirstMinimum())
    assert equivariance_error(first_minimum, rho_in, rho_out, x) > 1e-2
    assert equivariance_error(Equizero(backbone, rho_in, rho_out), rho_in, rho_out, x) < 1e-5


@pytest.mark.parametrize(
    ("group", "rho_in", "rho_out"),
    [
        (g, a, b)
        for g in (cyclic_group(4), dihedral_group(4), symmetric_group(3))
        for a, b in (
            (permutation_representation(g), permutation_representation(g)),
            (regular_representation(g), permutation_representation(g)),
            (regular_representation(g), trivial_representation(g, (2,))),
        )
    ]
    + [
        (
            cyclic_group(2),
            signed_permutation_representation(cyclic_group(2), [[0, 1, 2]] * 2, [[1, 1, 1], [1, -1, -1]]),
            permutation_representation(cyclic_group(2)),
        ),
        (
            dihedral_group(4),
            image_representation(dihedral_group(4), (1, 3, 3)),
            permutation_representation(dihedral_group(4)),
        ),
    ],
)
def test_averaging_linear_maps_projects_onto_the_dimension_that_characters_give(
    group: FiniteGroup, rho_in: MonomialRepresentation, rho_out: MonomialRepresentation
) -> None:
    # dim Hom_G(V_in, V_out) = <chi_out, chi_in> = 1/|G| sum_g chi_out(g) chi_in(g) for real characters (Schur).
    dimension = float((rho_out.character() * rho_in.character()).mean())
    n, m = rho_in.dim, rho_out.dim
    identity = torch.eye(n, dtype=torch.float64)
    layer = nn.Linear(n, m, bias=False).double()
    averaged = Equitune(nn.Sequential(nn.Flatten(), layer), rho_in, rho_out)
    columns = []
    with torch.no_grad():
        for unit in torch.eye(n * m, dtype=torch.float64):
            layer.weight.copy_(unit.view(m, n))
            columns.append(averaged(identity.view(n, *rho_in.shape)).reshape(n, m).T.flatten())
    projection = torch.stack(columns, dim=1)

    assert dimension == round(dimension)
    assert int(torch.linalg.matrix_rank(projection)) == dimension
    assert torch.allclose(projection @ projection, projection, atol=1e-12)
    assert torch.allclose(projection, projection.T, atol=1e-12)  # orthogonal: the nearest equivariant map


def test_the_mean_agrees_with_a_loop_over_group_elements() -> None:
    torch.manual_seed(0)
    group = symmetric_group(3)  # forward and inverse differ for the 3-cycles
    rho = permutation_representation(group)
    backbone = _backbone(3, 3)
    x = torch.randn(4, 3)
    expected = torch.zeros(4, 3)
    for g in range(6):
        expected += rho.transform(group.inverse(g), backbone(rho.transform(g, x))) / 6
    assert torch.allclose(Equitune(backbone, rho, rho)(x), expected, atol=1e-6)


def test_corner_cases_of_lambda_equitune() -> None:
    torch.manual_seed(0)
    group = dihedral_group(3)
    rho = permutation_representation(group)
    backbone = _backbone(3, 3)
    x = torch.randn(16, 3)
    constant = LambdaEquitune(backbone, rho, rho)  # starts constant
    assert torch.allclose(constant(x), Equitune(backbone, rho, rho)(x), atol=1e-6)

    class MaxQ(nn.Module):
        def forward(self, q: Tensor) -> Tensor:
            return q.amax(dim=1, keepdim=True)

    sharp = LambdaEquitune(backbone, rho, rho, network=MaxQ(), temperature=1e-6)
    assert torch.allclose(sharp(x), Equizero(backbone, rho, rho, proxy_loss="max_value")(x), atol=1e-5)


@each_method
def test_weights_are_a_distribution_and_move_with_the_input(make: Callable[..., Symmetrized]) -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    rho = permutation_representation(group)
    module = make(_backbone(4, 4), rho, rho)
    x = torch.randn(10, 4)
    weights = module.orbit_weights(x)
    assert weights.shape == (10, 8)
    assert bool((weights >= 0).all())
    assert torch.allclose(weights.sum(1), torch.ones(10, dtype=weights.dtype))
    # w_hx(g) = w_x(gh): the orbit of hx is that of x in another order
    h = group.index("r")
    assert torch.allclose(module.orbit_weights(rho.transform(h, x)), weights[:, group.cayley[:, h]], atol=1e-5)


def test_one_backbone_call_for_the_whole_orbit() -> None:
    calls = []

    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            calls.append(tuple(x.shape))
            return x

    rho = permutation_representation(dihedral_group(4))
    module = Equitune(Counting(), rho, rho)
    for _ in range(2):
        module(torch.randn(5, 4))
    assert calls == [(8, 4), (40, 4), (40, 4)]  # once before, on one sample, to measure how large activations are


def test_gradients_of_equizero() -> None:
    torch.manual_seed(0)
    group = cyclic_group(4)
    rho = permutation_representation(group)
    backbone = nn.Linear(4, 4)
    x = torch.randn(8, 4)

    def gradient(module: nn.Module) -> Tensor:
        backbone.zero_grad()
        module(x)[:, 0].sum().backward()
        assert backbone.weight.grad is not None
        return backbone.weight.grad.clone()

    pick = Equizero(backbone, rho, rho)
    straight_through = Equizero(backbone, rho, rho, gradient="straight_through")
    assert torch.equal(pick(x), straight_through(x))  # to the last bit, in training mode
    assert torch.allclose(gradient(straight_through), gradient(Equitune(backbone, rho, rho)), atol=1e-6)

    chosen = pick.orbit_weights(x).argmax(dim=1)
    backbone.zero_grad()
    picked_alone = torch.stack(
        [
            rho.transform(group.inverse(int(g)), backbone(rho.transform(int(g), x[i : i + 1])))[0]
            for i, g in enumerate(chosen)
        ]
    )
    picked_alone[:, 0].sum().backward()
    assert backbone.weight.grad is not None
    expected = backbone.weight.grad.clone()
    assert torch.allclose(gradient(pick), expected, atol=1e-6)


def test_in_the_middle_of_a_network() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    planes, maps = image_representation(group, (3, 6, 6)), image_representation(group, (5, 6, 6))
    convolution = nn.Conv2d(3, 5, 3, padding=1)
    head = nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))
    x = torch.randn(2, 3, 6, 6)
    for make in METHODS.values():
        inner = make(nn.Sequential(convolution), planes, maps)
        assert equivariance_error(inner, planes, maps, x) < 1e-5
        whole = nn.Sequential(inner, head)  # pooling makes the rest invariant
        assert equivariance_error(whole, planes, trivial_representation(group, (2,)), x) < 1e-5


def test_dict_observations_and_discrete_ones() -> None:
    torch.manual_seed(0)
    group = dihedral_group(4)
    rho_in = MappingRepresentation(
        {"image": image_representation(group, (1, 3, 3)), "compass": permutation_representation(group)}
    )
    rho_out = permutation_representation(group)

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(13, 4)

        def forward(self, x: dict[str, Tensor]) -> Tensor:
            return self.linear(torch.cat([x["image"].flatten(1), x["compass"]], dim=1))

    x = {"image": torch.randn(3, 1, 3, 3), "compass": torch.randn(3, 4)}
    for aggregator in (Mean(), Weighted(_random_network(13), reads="inputs"), Select()):
        assert equivariance_error(Symmetrized(Both(), rho_in, rho_out, aggregator), rho_in, rho_out, x) < 1e-5

    cells = TokenRepresentation(group, permutation_representation(group).index[group.inverses], shape=())
    table = nn.Embedding(4, 4)
    assert equivariance_error(Equizero(table, cells, rho_out), cells, rho_out, torch.arange(4)) < 1e-5


def test_lambda_reads_features_in_the_middle() -> None:
    torch.manual_seed(0)
    rho = permutation_representation(dihedral_group(4))
    body, head = nn.Sequential(nn.Linear(4, 9), nn.ReLU()), nn.Linear(9, 4)
    module = LambdaEquitune(head, rho, rho, features=body, network=_random_network(9))
    x = torch.randn(7, 4)
    assert equivariance_error(module, rho, rho, x) < 1e-5
    assert module.evaluate_orbit(x).features.shape == (7, 8, 9)
    assert torch.allclose(
        LambdaEquitune(head, rho, rho, features=body, features_dim=9)(x),
        Equitune(nn.Sequential(body, head), rho, rho)(x),
        atol=1e-6,
    )


def test_copies_devices_and_half_precision() -> None:
    rho = permutation_representation(cyclic_group(4))
    module = LambdaEquitune(nn.Linear(4, 4), rho, rho)
    assert set(module.state_dict()) == {
        "backbone.weight", "backbone.bias", "aggregator.network.0.weight", "aggregator.network.0.bias",
        "aggregator.network.2.weight", "aggregator.network.2.bias",
    }  # fmt: skip
    assert module.to(torch.bfloat16)(torch.randn(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_mistakes_are_named() -> None:
    c4, d4 = permutation_representation(cyclic_group(4)), permutation_representation(dihedral_group(4))
    with pytest.raises(ValueError, match="input_rep represents C4 but output_rep represents D4"):
        Equitune(nn.Identity(), c4, d4)
    with pytest.raises(ValueError, match=r"proxy loss 'max_valu' is unknown; known: .* Did you mean 'max_value'"):
        Equizero(nn.Identity(), c4, c4, proxy_loss="max_valu")
    with pytest.raises(ValueError, match="gradient 'straight' is unknown"):
        Equizero(nn.Identity(), c4, c4, gradient="straight")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reads 'feature' is unknown"):
        LambdaEquitune(nn.Identity(), c4, c4, reads="feature")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="temperature is a finite number above 0; got 0"):
        LambdaEquitune(nn.Identity(), c4, c4, temperature=0)
    with pytest.raises(ValueError, match="pass features_dim"):
        LambdaEquitune(nn.Identity(), c4, c4, features=nn.Identity())
    with pytest.raises(ValueError, match=r"one logit per row, \[8, 1\]; it gave \[8, 4\]"):
        LambdaEquitune(nn.Identity(), c4, c4, network=nn.Identity())(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"one number per orbit entry, \[2, 4\]; it gave \[2, 4, 4\]"):
        Equizero(nn.Identity(), c4, c4, proxy_loss=lambda orbit: orbit.outputs)(torch.randn(2, 4))
    with pytest.raises(ValueError, match=r"acts on \[batch, 4\]; got torch.float32 \[2, 5\]"):
        Equitune(nn.Identity(), c4, c4)(torch.randn(2, 5))


@pytest.mark.parametrize("batch", [1, 6])
def test_a_compiled_module_is_one_graph_and_gives_the_same(batch: int) -> None:
    torch.manual_seed(0)
    c4 = regular_representation(cyclic_group(4))
    x = torch.randn(batch, 4)
    for make in (Equitune, LambdaEquitune, Equizero, Canonical):
        module = make(nn.Linear(4, 4), c4, c4)
        expected = module(x)
        module.compile(backend="eager", fullgraph=True)
        assert torch.allclose(module(x), expected)
