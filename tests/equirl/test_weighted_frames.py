"""The canonical choice with a margin: continuous, and one view nearly always."""

import pytest
import torch
from torch import nn

import equirl.envs  # noqa: F401  (registers symmetries)
from equirl import Canonical
from equirl.canonical import MinimalFrame
from equirl.mappings import MappingRepresentation
from equirl.symmetry import build_symmetry
from equirl.testing import equivariance_error

SYMMETRIES = {"grid-d4": ((3, 5, 5), 4), "cartpole-z2": ((4,), 2), "torus-d4": ((1, 3, 3), 4)}


def choice(name: str, margin: float) -> tuple[Canonical, tuple[int, ...]]:
    shape, n_actions = SYMMETRIES[name]
    symmetry = build_symmetry(name, shape, n_actions)
    torch.manual_seed(0)
    size = torch.Size(shape).numel()
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, 32), nn.Tanh(), nn.Linear(32, n_actions))
    return Canonical(net, symmetry.observation, symmetry.action, margin=margin), shape


@pytest.mark.parametrize("name", ["grid-d4", "cartpole-z2"])
def test_jumps_fall_with_the_steps_along_a_line(name: str) -> None:
    generator = torch.Generator().manual_seed(1)

    def largest_jump(margin: float, steps: int, lines: int) -> float:
        module, shape = choice(name, margin)
        largest = 0.0
        for _ in range(lines):
            start, end = torch.randn(2, *shape, generator=generator)
            place = torch.linspace(0, 1, steps + 1).view(-1, *(1 for _ in shape))
            with torch.no_grad():
                outputs = module(start + place * (end - start))
            largest = max(largest, float((outputs[1:] - outputs[:-1]).abs().max()))
        return largest

    assert largest_jump(0.0, 1_000, 30) > 0.3  # the choice of one view jumps, however small the steps
    coarse, fine = largest_jump(0.1, 100, 1_000), largest_jump(0.1, 10_000, 30)
    assert fine < coarse / 20
    assert fine < 0.03


@pytest.mark.parametrize("name", list(SYMMETRIES))
@pytest.mark.parametrize("margin", [0.03, 0.3])
def test_it_is_equivariant_on_ties_and_off_them(name: str, margin: float) -> None:
    module, shape = choice(name, margin)
    rep, out = module.input_rep, module.output_rep
    x = torch.randn(30, *shape, generator=torch.Generator().manual_seed(2))
    fixed = torch.stack([torch.zeros(shape), torch.ones(shape)])  # every grid element leaves these as they are
    half = torch.stack([x[:5], rep.transform(1, x[:5])]).mean(dim=0)  # an involution's, or nearly tied
    everything = torch.cat([x, fixed, half])
    assert equivariance_error(module, rep, out, everything) < 1e-6


def test_most_inputs_ask_for_one_row() -> None:
    module, shape = choice("cartpole-z2", 0.05)
    rows: list[int] = []
    module.backbone.register_forward_hook(lambda _module, given, _output: rows.append(len(given[0])))
    module(torch.randn(1_000, *shape, generator=torch.Generator().manual_seed(3)))
    assert 1_000 < sum(rows) < 1_100


def test_its_gradient_is_that_of_a_continuous_function() -> None:
    module, shape = choice("cartpole-z2", 0.5)
    module.double()
    x = torch.randn(6, *shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))


def test_a_graph_for_any_input_has_the_same_weights() -> None:
    module, shape = choice("grid-d4", 0.2)
    x = torch.randn(7, *shape, generator=torch.Generator().manual_seed(5))
    compiled = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(compiled(x), module(x))


def test_an_entry_that_leads_decides_alone() -> None:
    symmetry = build_symmetry("cartpole-z2", (4,), 2)
    both = MappingRepresentation({"observation": symmetry.observation, "action": symmetry.action})
    frame = MinimalFrame(both, leading="observation", margin=0.1)
    alone = MinimalFrame(symmetry.observation, margin=0.1)
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(6))
    found = frame.choose_several({"observation": x, "action": torch.rand(50, 2)})
    expected = alone.choose_several(x)
    assert found is not None
    assert expected is not None
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        choice("cartpole-z2", -0.1)
