import pytest
import torch
from torch import nn

from equirl import assert_equivariant, cyclic_group, equivariance_error, equivariance_errors, permutation_representation

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
