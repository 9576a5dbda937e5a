"""What each kernel of monomial representations buys, beside the operation that it takes the place of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from equirl import MonomialRepresentation
from equirl.experiments.cost.measurement import Measurement, compare
from equirl.experiments.cost.passes import group_symmetry
from equirl.experiments.timing import Settings
from equirl.monomial_kernels import MonomialKernels
from equirl.representations import Representation

__all__ = ["kernel_cases", "measure_kernels"]

Cases = dict[str, Callable[[], Tensor]]


def measure_kernels(settings: Settings) -> Iterator[Measurement]:
    """Yield the time of each kernel on D4's images and actions; ratios are to the operation that it replaces."""
    for what, size, batch, cases in kernel_cases(settings):
        yield from compare(cases, settings, what, "D4", "-", size, batch)


def kernel_cases(settings: Settings) -> Iterator[tuple[str, int, int, Cases]]:
    """Yield what is computed, the size of a sample, the batch, and the ways to compute it."""
    symmetry, shape = group_symmetry("D4", 8)
    images, actions = symmetry.observation.to(settings.device), symmetry.action.to(settings.device)
    assert isinstance(images, MonomialRepresentation)
    torch.manual_seed(0)
    yield "orbit of one image", shape[1], 1, _one_orbit(images)
    for batch in (64,) if settings.quick else (32, 256):
        for dtype in (torch.float32, torch.uint8):
            rows = torch.randint(2, (batch, images.dim), device=settings.device).to(dtype)
            what = f"orbits of images, {str(dtype).removeprefix('torch.')}"
            yield what, shape[1], batch, _orbits(images, rows)
        values = torch.rand(batch, actions.group.order, *actions.shape, device=settings.device)
        yield "weighted sum of the orbit of 4 actions", 4, batch, _sums(actions, values)


def _one_orbit(images: MonomialRepresentation) -> Cases:
    index = images.index
    kernels = MonomialKernels(images.shape, index, index, None, None)
    one, columns = torch.rand(1, *images.shape, device=index.device), index.reshape(-1)
    return {
        "index_select": lambda: one.view(1, -1).index_select(1, columns),
        "take": lambda: kernels.views_of_one(one),
    }


def _orbits(images: MonomialRepresentation, rows: Tensor) -> Cases:
    columns = images.index.reshape(-1)
    expanded = columns.expand(len(rows), -1)
    return {"index_select": lambda: rows.index_select(1, columns), "gather": lambda: rows.gather(1, expanded)}


def _sums(actions: MonomialRepresentation, values: Tensor) -> Cases:
    weights = values.sum(dim=2).softmax(dim=1)
    return {
        "move and add": lambda: Representation.combine(actions, values, weights),
        "product": lambda: actions.combine(values, weights),
    }
