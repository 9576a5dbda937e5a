"""Frames of the plane: exact for every angle, without jumps; and their quadrature."""

import pytest
import torch
from torch import Tensor, nn

from equirl import Canonical, Equitune, Equizero, LambdaEquitune, equivariance_error
from equirl.plane import PlaneElements, PlaneFrames, PlaneVectors, RandomOffset

IN = PlaneVectors("vector", "scalar", "vector", "pseudoscalar", "vector")
OUT = PlaneVectors("vector", "scalar", "pseudoscalar")
PLACES = PlaneVectors("point", "point", "vector", "scalar")


def rows(layout: PlaneVectors, n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, layout.dim, generator=torch.Generator().manual_seed(seed))


def elements(n: int, mirrors: bool, reach: float = 0.0, seed: int = 1) -> PlaneElements:
    return PlaneElements.sample(n, mirrors, reach, torch.Generator().manual_seed(seed))


def network(inputs: PlaneVectors, outputs: PlaneVectors, mirrors: bool, margin: float = 0.1) -> PlaneFrames:
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(inputs.dim, 32), nn.Tanh(), nn.Linear(32, outputs.dim))
    return PlaneFrames(net, inputs, outputs, mirrors, margin)


@pytest.mark.parametrize("mirrors", [False, True])
def test_the_elements_form_a_group_that_acts(mirrors: bool) -> None:
    g, h, k = (elements(200, mirrors, 1.0, seed) for seed in (1, 2, 3))
    x = rows(PLACES, 200)
    torch.testing.assert_close(PLACES.transform(g, PLACES.transform(h, x)), PLACES.transform(g.after(h), x))
    torch.testing.assert_close(PLACES.pull_back(g, PLACES.transform(g, x)), x, atol=1e-5, rtol=1e-4)
    left, right = g.after(h).after(k), g.after(h.after(k))
    torch.testing.assert_close(left.matrices(), right.matrices(), atol=1e-5, rtol=0)
    torch.testing.assert_close(left.move, right.move, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(g.matrices().det(), torch.where(g.mirror, -1.0, 1.0))


@pytest.mark.parametrize("mirrors", [False, True])
@pytest.mark.parametrize("layouts", [(IN, OUT), (PLACES, PlaneVectors("point", "vector", "scalar"))])
def test_it_is_equivariant_for_a_thousand_angles(mirrors: bool, layouts: tuple[PlaneVectors, PlaneVectors]) -> None:
    inputs, outputs = layouts
    module = network(inputs, outputs, mirrors)
    x, g = rows(inputs, 1_000), elements(1_000, mirrors, 1.0 if inputs is PLACES else 0.0)
    with torch.no_grad():
        expected = outputs.transform(g, module(x))
        error = (module(inputs.transform(g, x)) - expected).norm() / expected.norm()
        other = network(inputs, outputs, False)(inputs.transform(g, x)) - expected
    assert float(error) < 1e-5
    assert not mirrors or float(other.abs().max()) > 0.01


@pytest.mark.parametrize("mirrors", [False, True])
def test_it_is_equivariant_where_vectors_vanish_or_lie_in_a_line(mirrors: bool) -> None:
    module = network(IN, OUT, mirrors)
    x = rows(IN, 300)
    x[:100, [0, 1, 3, 4, 6, 7]] = 0  # no direction at all
    x[100:200, 3:5] = 2 * x[100:200, 0:2]  # one line
    x[100:200, 6:8] = 0
    x[200:, 3:5] = x[200:, 0:2] @ torch.tensor([[0.0, 1.0], [-1.0, 0.0]])  # as long as each other
    g = elements(300, mirrors)
    with torch.no_grad():
        torch.testing.assert_close(module(IN.transform(g, x)), OUT.transform(g, module(x)), atol=2e-5, rtol=0)
        alone = module(x[:100])
    assert float(alone[:, :2].abs().max()) == 0  # a vector cannot point anywhere then
    assert float(alone[:, 2].abs().min()) > 0


@pytest.mark.parametrize("mirrors", [False, True])
def test_it_does_not_jump(mirrors: bool) -> None:
    module = network(IN, OUT, mirrors, margin=0.2)
    starts, ends = rows(IN, 40, 5), rows(IN, 40, 6)
    starts[:10, [0, 1, 3, 4, 6, 7]] = -ends[:10, [0, 1, 3, 4, 6, 7]]  # through no direction at all

    def largest_jump(steps: int) -> float:
        place = torch.linspace(0, 1, steps + 1).view(-1, 1)
        with torch.no_grad():
            jumps = [module(a + place * (b - a)).diff(dim=0).abs().max() for a, b in zip(starts, ends, strict=True)]
        return float(torch.stack(jumps[10:]).max())

    assert largest_jump(20_000) < 0.03
    assert largest_jump(20_000) < largest_jump(200) / 10


def test_most_inputs_need_one_or_two_views() -> None:
    samples, _, weights, rest = network(IN, OUT, False).views(rows(IN, 2_000))
    assert 2_000 <= len(samples) < 2_300
    summed = torch.zeros(2_000).index_add(0, samples, weights) + rest
    torch.testing.assert_close(summed, torch.ones(2_000))


def test_points_move_along_where_no_direction_is_left() -> None:
    inputs, outputs = PlaneVectors("point", "point", "scalar"), PlaneVectors("point", "vector")
    module = network(inputs, outputs, True).double()
    x = rows(inputs, 50).double()
    x[:25, 2:4] = x[:25, :2]  # both points in one place
    x[25:, 2:4] = x[25:, :2] + 1e-3
    g = elements(50, True, 5.0)
    with torch.no_grad():
        torch.testing.assert_close(module(inputs.transform(g, x)), outputs.transform(g, module(x)), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="need points among the inputs"):
        network(PlaneVectors("vector"), outputs, True)
    with pytest.raises(ValueError, match="no direction"):
        network(PlaneVectors("point", "scalar"), outputs, True)


def test_gradients_reach_the_inputs() -> None:
    module = network(IN, OUT, True, margin=0.9).double()
    x = rows(IN, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(module, (x,), atol=1e-4)


def test_the_quadrature_comes_near_with_the_number_of_angles() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(IN.dim, 32), nn.Tanh(), nn.Linear(32, OUT.dim))
    x, g = rows(IN, 400), elements(400, False)
    errors = []
    for n in (3, 6, 12, 24):
        module = Equitune(net, IN.sampled(n), OUT.sampled(n))
        assert equivariance_error(module, IN.sampled(n), OUT.sampled(n), x) < 1e-5
        with torch.no_grad():
            expected = OUT.transform(g, module(x))
            errors.append(float((module(IN.transform(g, x)) - expected).norm() / expected.norm()))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-3 < errors[0]


def test_a_random_offset_is_equivariant_in_the_mean() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(IN.dim, 32), nn.Tanh(), nn.Linear(32, OUT.dim))
    coarse, fine = (Equitune(net, IN.sampled(n), OUT.sampled(n)) for n in (3, 360))
    x = rows(IN, 1).repeat(4000, 1)
    with torch.no_grad():
        calls = RandomOffset(coarse, IN, OUT, generator=torch.Generator().manual_seed(1))(x)
        exact, biased = fine(x[:1])[0], coarse(x[:1])[0]
    standard_error = calls.std(dim=0) / len(x) ** 0.5
    assert ((calls.mean(dim=0) - exact).abs() < 4 * standard_error + 1e-5).all()
    assert ((biased - exact).abs() > 10 * standard_error).any()  # the mean of fixed angles is another one
    graph = torch.export.export(
        RandomOffset(coarse, IN, OUT), (x[:4],), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    assert graph.module()(x[:7]).shape == (7, OUT.dim)
    again = RandomOffset(coarse, IN, OUT, generator=torch.Generator().manual_seed(1))(x)
    assert torch.equal(again, calls)


@pytest.mark.parametrize("method", [Equitune, LambdaEquitune, Equizero, Canonical])
def test_every_method_is_exact_over_a_handful_of_frames(method: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(IN.dim, 32), nn.Tanh(), nn.Linear(32, OUT.dim))
    settings = {"reads": "inputs"} if method is LambdaEquitune else {}
    inner = method(net, IN.sampled(4), OUT.sampled(4), **settings)
    module = PlaneFrames(inner, IN, OUT)
    x, g = rows(IN, 1_000), elements(1_000, False)
    with torch.no_grad():
        expected = OUT.transform(g, module(x))
        error = (module(IN.transform(g, x)) - expected).norm() / expected.norm()
        coarse = OUT.transform(g, inner(x))
        assert float((inner(IN.transform(g, x)) - coarse).norm() / coarse.norm()) > 1e-3
    assert float(error) < 1e-5


def test_mistakes_are_named() -> None:
    with pytest.raises(TypeError, match="generator"):
        RandomOffset(nn.Identity(), IN, OUT, generator=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="points move"):
        RandomOffset(nn.Identity(), PLACES, OUT)
    with pytest.raises(TypeError, match="floats"):
        IN.transform(elements(2, False), torch.ones(2, IN.dim, dtype=torch.long))
    with pytest.raises(ValueError, match="name the parts"):
        PlaneVectors()
    with pytest.raises(ValueError, match="kind of part"):
        PlaneVectors("velocity")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="read off vectors"):
        network(PlaneVectors("scalar"), OUT, False)
    with pytest.raises(ValueError, match="are 8 numbers"):
        network(IN, OUT, False)(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="points move"):
        PLACES.sampled(8)
