"""Is it really equivariant? The measure ``max_g ||M(gx) - g M(x)|| / ||M(x)||``, and an assertion on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from equirl.arguments import of_kind, real_number
from equirl.representations import Representation, Tree

__all__ = ["assert_equivariant", "equivariance_error", "equivariance_errors", "evaluation_mode"]

_ROUND_OFF = 8  # relative errors of so many eps raise the question whether the output has to vanish
_STEP = 1e-2  # of a finite difference, relative to the input
_MOST_NOISE = 32  # outputs whose round-off is larger, relative to how they change, are suspicious in themselves


@contextmanager
def evaluation_mode(*modules: object) -> Iterator[None]:
    """Put modules into evaluation mode, and afterwards every part of them back into the mode it was in.

    ``module.train(was_training)`` would not do: it also puts parts into training mode that their owner had frozen.

    Args:
        *modules: Modules; anything else is left alone.
    """
    roots = [module for module in modules if isinstance(module, nn.Module)]
    modes = [(part, part.training) for root in roots for part in root.modules()]
    for root in roots:
        root.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


@torch.no_grad()
def equivariance_errors(
    module: Callable[[Tree], Tensor],
    input_rep: Representation,
    output_rep: Representation,
    x: Tree,
) -> Tensor:
    """Return ``||M(gx) - g M(x)|| / ||M(x)||`` for each sample and group element, shape ``[B, |G|]``.

    A module is measured in evaluation mode (dropout and batch statistics would hide the error), and each of its parts
    is put back into the mode it was in.

    Args:
        module: The map ``M``, ``[N, *input] -> [N, *output]``.
        input_rep: How the group moves an input.
        output_rep: How the group moves an output.
        x: Inputs, shape ``[B, *input]``, or a dict of such.

    Returns:
        Errors relative to the norm of ``M(x)``. Equivariance forces some outputs to vanish, and then nothing but
        round-off is left of them; so an error above round-off is relative to how much ``M`` changes when every
        coordinate of ``x`` does, ``||M(x + t d) - M(x)|| / t`` with ``|d|`` about ``|x|``, where that is larger (for
        integers ``||M(x') - M(x)||``, the entries of ``x`` in another order), or to up to 32 times as much where a
        change of ``x`` in the last places shows that the round-off of ``M`` is so large. Absolute where all is zero.

    Raises:
        ValueError: The representations are of different groups, or a shape does not fit.
    """
    for what, rep in (("input_rep", input_rep), ("output_rep", output_rep)):
        of_kind(rep, Representation, what)  # type: ignore[type-abstract]
    if input_rep.group != output_rep.group:
        raise ValueError(f"input_rep represents {input_rep.group} but output_rep represents {output_rep.group}")
    with evaluation_mode(module):
        plain = module(x)
        expected = output_rep.orbit(plain)
        if not isinstance(expected, Tensor):
            raise ValueError("output_rep must act on tensors")
        errors = []
        for g in range(input_rep.group.order):
            difference = module(input_rep.transform(g, x)) - expected[:, g]
            errors.append(_norms(difference))
        gaps, scale = torch.stack(errors, dim=1), _norms(plain)
        if bool((gaps > _ROUND_OFF * torch.finfo(gaps.dtype).eps * scale[:, None]).any()):
            scale = _size_of_change(module, x, plain, scale)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return gaps / scale[:, None]


def equivariance_error(
    module: Callable[[Tree], Tensor], input_rep: Representation, output_rep: Representation, x: Tree
) -> float:
    """Return ``max_g ||M(gx) - g M(x)|| / ||M(x)||``, the largest over the batch and the group.

    NaN where an output is not a number. Arguments and errors as for ``equivariance_errors``, and a ``ValueError`` where
    there are no inputs.
    """
    return float(_some(equivariance_errors(module, input_rep, output_rep, x)).max())


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
        TypeError: ``tolerance`` is no number.
        AssertionError: It is not, or the error is not a number; the message names the worst element and sample.
        ValueError: A negative or infinite tolerance, or NaN; no inputs; or as for ``equivariance_errors``.
    """
    tolerance = real_number(tolerance, "tolerance", least=0)
    errors = _some(equivariance_errors(module, input_rep, output_rep, x))
    worst = int(errors.nan_to_num(nan=torch.inf).argmax())
    sample, g = divmod(worst, errors.shape[1])
    error = float(errors[sample, g])
    if not error <= tolerance:
        raise AssertionError(
            f"not equivariant: ||M(gx) - g M(x)|| / ||M(x)|| = {error:.2e} > {tolerance:.0e} "
            f"for g = {input_rep.group.element_names[g]} at sample {sample}"
        )


def _some(errors: Tensor) -> Tensor:
    if errors.numel() == 0:
        raise ValueError("equivariance is measured on inputs; got a batch of none")
    return errors


def _size_of_change(module: Callable[[Tree], Tensor], x: Tree, plain: Tensor, scale: Tensor) -> Tensor:
    """Return by how much ``M`` changes with its input, or ``scale`` where that is larger, shape ``[B]``."""
    if not any(leaf.is_floating_point() or leaf.is_complex() for leaf in tree_leaves(x)):
        return scale.fmax(torch.stack([_norms(module(_changed(x, 1, k)) - plain) for k in range(4)]).amax(dim=0))

    def slope(step: float, seed: int) -> Tensor:
        return _norms(module(_changed(x, step, seed)) - plain) / step

    for seed in range(3):
        scale = scale.fmax(slope(_STEP, seed))
    eps = torch.finfo(scale.dtype).eps
    noises = torch.stack([slope(2**k * eps, k) for k in (1, 2, 3)])
    return scale.fmax(noises.amax(dim=0).clamp_max(_MOST_NOISE * scale))


def _norms(outputs: Tensor) -> Tensor:
    norms: Tensor = (outputs if outputs.ndim > 1 else outputs.unsqueeze(1)).flatten(1).norm(dim=1)
    return norms


def _changed(x: Tree, step: float, seed: int = 0) -> Tree:
    """Return inputs that no group element leaves fixed: reals near ``x``, integers in another order."""
    if not isinstance(x, Tensor):
        return {key: _changed(part, step, seed) for key, part in x.items()}
    numbers = torch.Generator().manual_seed(seed)
    if not (x.is_floating_point() or x.is_complex()):
        flat = x.reshape(len(x), -1)
        return flat[:, torch.randperm(flat.shape[1], generator=numbers).to(x.device)].reshape(x.shape)
    sizes = x.abs().nan_to_num()
    usual = sizes.mean()
    sizes = sizes.clamp_min(float(usual) if usual > 0 else 1.0)
    directions = 2 * torch.rand(x.shape, generator=numbers).to(sizes) - 1
    return x + step * sizes * directions
