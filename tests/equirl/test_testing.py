import pytest
import torch
from torch import nn

from equirl import (
    Canonical,
    Equitune,
    assert_equivariant,
    cyclic_group,
    dihedral_group,
    equivariance_error,
    image_representation,
    permutation_representation,
    signed_permutation_representation,
)
from equirl.testing import equivariance_errors

RHO = permutation_representation(cyclic_group(3))


def test_error_of_a_known_map() -> None:
    # M(x) = (x_0, 0, 0): at x = (1, 2, 0), g = r gives M(gx) - g M(x) = (0, -1, 0), relative to ||M(x)|| = 1.
    class FirstOnly(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.tensor([1.0, 0.0, 0.0])

    x = torch.tensor([[1.0, 2.0, 0.0]])
    errors = equivariance_errors(FirstOnly(), RHO, RHO, x)
    assert torch.allclose(errors, torch.tensor([[0.0, 1.0, 5**0.5]]))
    assert equivariance_error(FirstOnly(), RHO, RHO, x) == pytest.approx(5**0.5)


def test_an_equivariant_map_passes_and_another_is_named() -> None:
    x = torch.randn(4, 3)
    assert_equivariant(nn.Tanh(), RHO, RHO, x)
    with pytest.raises(AssertionError, match=r"not equivariant: .* for g = r2? at sample \d"):
        assert_equivariant(nn.Linear(3, 3), RHO, RHO, x)


def test_nan_does_not_pass() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * float("nan")

    with pytest.raises(AssertionError, match="nan"):
        assert_equivariant(Broken(), RHO, RHO, torch.randn(2, 3))


def test_measured_in_evaluation_mode_and_put_back() -> None:
    module = nn.Sequential(nn.Dropout(0.5))
    assert equivariance_error(module, RHO, RHO, torch.randn(4, 3)) == 0
    assert module.training


@pytest.mark.parametrize("integers", [False, True])
def test_an_output_that_has_to_vanish_passes_and_a_wrong_one_fails(integers: bool) -> None:
    group = dihedral_group(4)
    images = image_representation(group, (1, 4, 4))
    sign = signed_permutation_representation(group, [[0]] * 8, [[1]] * 4 + [[-1]] * 4)
    for seed in range(10):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 1))
        backbone = nn.Sequential(_ToFloat(), net)
        x = torch.randint(3, (6, 1, 4, 4)) if integers else torch.randn(6, 1, 4, 4)
        fixed = x + x.flip(2)  # its own mirror image, where a sign must be 0
        for inputs in (torch.cat([x, fixed]), fixed, fixed[:1]):
            assert_equivariant(Equitune(backbone, images, sign), images, sign, inputs)
            assert_equivariant(Canonical(backbone, images, sign), images, sign, inputs)
            assert equivariance_error(backbone, images, sign, inputs) > 1e-2


class _ToFloat(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


def test_every_part_comes_back_in_the_mode_it_was_in() -> None:
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3), nn.Dropout(0.5)).train()
    net[0].eval()
    equivariance_errors(net, RHO, RHO, torch.randn(4, 3))
    assert [part.training for part in net.modules()] == [True, False, True, True]

    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    broken = nn.Sequential(net, Broken())
    with pytest.raises(RuntimeError, match="broken"):
        equivariance_errors(broken, RHO, RHO, torch.randn(4, 3))
    assert [part.training for part in net.modules()] == [True, False, True, True]


@pytest.mark.parametrize("tolerance", [float("nan"), -1e-5, float("inf")])
def test_a_tolerance_that_means_nothing_is_refused(tolerance: float) -> None:
    with pytest.raises(ValueError, match="tolerance is a finite number"):
        assert_equivariant(nn.Linear(3, 3), RHO, RHO, torch.randn(2, 3), tolerance)
    with pytest.raises(ValueError, match="a batch of none"):
        assert_equivariant(nn.Identity(), RHO, RHO, torch.randn(0, 3))
