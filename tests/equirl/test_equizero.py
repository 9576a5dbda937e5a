"""Which losses of equizero tie and which do not, and the settings of the aggregators."""

import math

import pytest
import torch
from torch import Tensor, nn

from equirl import Equizero, cyclic_group, dihedral_group, image_representation, permutation_representation
from equirl.aggregators import Select, Weighted
from equirl.orbit import Orbit
from equirl.weights import pick_least


def _two_actions(orbit: Orbit) -> Tensor:
    return -orbit.outputs.flatten(2).amax(dim=2)


@pytest.mark.parametrize("scale", [1.0, 1e5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equizero_tells_losses_apart_that_differ(scale: float, dtype: torch.dtype) -> None:
    # A loss of +inf excludes a view; it must not widen the tolerance of the others, nor must a large common value.
    group = cyclic_group(4)
    images, moves = image_representation(group, (1, 4, 4)), permutation_representation(group)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).to(dtype)
    x = torch.randn(30, 1, 4, 4, dtype=dtype)

    def shifted(orbit: Orbit) -> Tensor:
        return 10 * _two_actions(orbit) + scale

    def excluding(orbit: Orbit) -> Tensor:
        losses = shifted(orbit)
        return losses.scatter(1, losses.argmax(dim=1, keepdim=True), torch.inf)

    expected = Equizero(net, images, moves, proxy_loss=_two_actions).orbit_weights(x)
    assert (expected.amax(dim=1) == 1).all()
    for proxy_loss in (shifted, excluding):
        weights = Equizero(net, images, moves, proxy_loss=proxy_loss).orbit_weights(x)
        assert (weights == expected).all(dim=1).float().mean() > 0.9  # 1e5 leaves float32 two digits of the loss
    nothing = Equizero(net, images, moves, proxy_loss=lambda orbit: torch.full_like(_two_actions(orbit), torch.inf))
    assert torch.equal(nothing.orbit_weights(x), torch.full((30, 4), 0.25, dtype=dtype))


def test_equal_views_tie_whatever_the_round_off_of_their_losses() -> None:
    group = dihedral_group(4)
    images, moves = image_representation(group, (1, 4, 4)), permutation_representation(group)
    x = torch.rand(4, 1, 4, 4)
    x = x + x.flip(3)  # a mirror image of itself: pairs of equal views
    noise = torch.linspace(0, 1e-6, 8)

    def noisy(orbit: Orbit) -> Tensor:
        return 1 + _two_actions(orbit).round(decimals=1) + noise

    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    weights = Equizero(net, images, moves, proxy_loss=noisy).orbit_weights(x)
    assert ((weights > 0).sum(dim=1) % 2 == 0).all()
    assert Select(tie_tolerance=0).tie_tolerance == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_settings_that_are_no_numbers_in_range_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match="temperature is a finite number above 0"):
        Weighted(nn.Linear(3, 1), temperature=value)
    with pytest.raises(ValueError, match="tie_tolerance is a finite number at least 0"):
        Select(tie_tolerance=value)
    with pytest.raises(TypeError, match="temperature is a number"):
        Weighted(nn.Linear(3, 1), temperature="warm")  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 2, 40])
@pytest.mark.parametrize("order", [1, 2, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_picks_are_those_of_a_loop_over_rows_whatever_the_losses(batch: int, order: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(batch * order)
    seen = set()
    for trial in range(40):
        losses = torch.randint(-3, 4, (batch, order), generator=generator).to(dtype)  # some tie
        losses += torch.randint(0, 2, (1,), generator=generator) * torch.rand(losses.shape, generator=generator)
        special = torch.tensor([torch.inf, -torch.inf, torch.nan], dtype=dtype)
        chosen = torch.randint(0, 30, losses.shape, generator=generator)
        losses = torch.where((chosen < 3) & (trial % 2 == 0), special[chosen.clamp(max=2)], losses)
        expected = torch.stack([_weights_of_row(row) for row in losses])
        weights = pick_least(losses)
        assert torch.equal(weights.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))
        seen |= {float(w) for w in weights.nan_to_num(nan=-1).flatten()}
    assert order == 1 or {0.0, 0.5, 1.0} <= seen


def _weights_of_row(losses: Tensor) -> Tensor:
    numbers = losses.tolist()
    size = max((abs(number) for number in numbers if math.isfinite(number)), default=0.0)
    least = math.nan if any(map(math.isnan, numbers)) else min(numbers)
    bound = least + 4 * torch.finfo(losses.dtype).eps * size
    tied = torch.tensor([number <= bound for number in numbers], dtype=losses.dtype)
    return tied / tied.sum()
