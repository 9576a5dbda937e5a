"""Is it really equivariant? The measure ``max_g ||M(gx) - g M(x)|| / ||M(x)||``, and an assertion on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from equirl.representations import Representation, Tree

__all__ = ["assert_equivariant", "equivariance_error", "equivariance_errors"]


@torch.no_grad()
def equivariance_errors(
    module: Callable[[Tree], Tensor],
    input_rep: Representation,
    output_rep: Representation,
    x: Tree,
) -> Tensor:
    """Return ``||M(gx) - g M(x)|| / ||M(x)||`` for each sample and group element, shape ``[B, |G|]``.

    A module in training mode is measured in evaluation mode and put back: dropout and batch statistics would hide
    what is asked.

    Args:
        module: The map ``M``, ``[N, *input] -> [N, *output]``.
        input_rep: How the group moves an input.
        output_rep: How the group moves an output.
        x: Inputs, shape ``[B, *input]``, or a dict of such.

    Returns:
        Errors relative to the norm of ``M(x)``; absolute where ``M(x)`` is zero.

    Raises:
        ValueError: The representations are of different groups, or a shape does not fit.
    """
    if input_rep.group != output_rep.group:
        raise ValueError(f"input_rep represents {input_rep.group} but output_rep represents {output_rep.group}")
    training = isinstance(module, nn.Module) and module.training
    if isinstance(module, nn.Module):
        module.eval()
    try:
        plain = module(x)
        expected = output_rep.orbit(plain)
        if not isinstance(expected, Tensor):
            raise ValueError("output_rep must act on tensors")
        errors = []
        for g in range(input_rep.group.order):
            difference = module(input_rep.apply(g, x)) - expected[:, g]
            errors.append(difference.flatten(1).norm(dim=1))
    finally:
        if isinstance(module, nn.Module):
            module.train(training)
    scale = plain.flatten(1).norm(dim=1)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.stack(errors, dim=1) / scale[:, None]


def equivariance_error(
    module: Callable[[Tree], Tensor], input_rep: Representation, output_rep: Representation, x: Tree
) -> float:
    """Return ``max_g ||M(gx) - g M(x)|| / ||M(x)||``, the largest over the batch and the group.

    Arguments and errors as for ``equivariance_errors``.
    """
    return float(equivariance_errors(module, input_rep, output_rep, x).max())


def assert_equivariant(
    module: Callable[[Tree], Tensor],
    input_rep: Representation,
    output_rep: Representation,
    x: Tree,
    tolerance: float = 1e-5,
) -> None:
    """Raise unless ``M(gx) = g M(x)`` to ``tolerance``, relative to ``||M(x)||``, for all ``g`` and samples.

    The default is for float32; float64 allows 1e-12. Arguments as for ``equivariance_errors``.

    Raises:
        AssertionError: It is not, or the error is not a number; the message names the worst element and sample.
        ValueError: As for ``equivariance_errors``.
    """
    errors = equivariance_errors(module, input_rep, output_rep, x)
    worst = int(errors.nan_to_num(nan=torch.inf).argmax())
    sample, g = divmod(worst, errors.shape[1])
    error = float(errors[sample, g])
    if not error <= tolerance:
        raise AssertionError(
            f"not equivariant: ||M(gx) - g M(x)|| / ||M(x)|| = {error:.2e} > {tolerance:.0e} "
            f"for g = {input_rep.group.element_names[g]} at sample {sample}"
        )
