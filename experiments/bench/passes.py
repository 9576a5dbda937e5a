"""Forward and backward passes: every method beside the plain backbone, the floor, and a loop over the elements."""

from __future__ import annotations

import copy
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from equirl.experiments.bench.networks import METHODS, backbone, group_symmetry
from equirl.experiments.bench.timing import Measurement, Settings, compare

__all__ = ["COMPILED", "FORWARD", "TRAIN", "measure_passes"]

FORWARD = "forward"
TRAIN = "forward + backward"
COMPILED = "torch.compile"

_MOST_PIXELS = 26_000_000  # of all views of a batch: beyond, a single case takes minutes


def measure_passes(settings: Settings) -> Iterator[Measurement]:
    """Yield forward, and forward + backward, for groups, backbones, image sizes and batches."""
    for size in (8,) if settings.quick else (8, 64):
        for kind in ("mlp", "cnn"):
            for group in ("C4", "D4") if settings.quick else ("C4", "D4", "S4"):
                for batch in (1, 32) if settings.quick else (1, 32, 256):
                    yield from _case(settings, size, kind, group, batch)
    if not settings.quick:
        yield from _compiled(settings)


def _compiled(settings: Settings) -> Iterator[Measurement]:
    """Yield what ``module.compile()`` makes of it, beside the plain network and each as it is."""
    if settings.device == "cpu" and shutil.which("g++") is None and shutil.which("clang++") is None:
        print(f"{COMPILED}: there is no C++ compiler here", file=sys.stderr)
        return
    for kind in ("mlp", "cnn"):
        symmetry, shape = group_symmetry("C4", 8)
        x = torch.randn(32, *shape, device=settings.device)
        modules = {"plain": backbone(kind, shape)}
        modules |= {name: METHODS[name](backbone(kind, shape), symmetry) for name in ("equitune", "canonical")}
        for name in list(modules):
            modules[f"{name}, compiled"] = copy.deepcopy(modules[name])
            modules[f"{name}, compiled"].compile()
        for what, timed in ((FORWARD, _forward), (TRAIN, _train)):
            cases = {name: timed(module.to(settings.device), x) for name, module in modules.items()}
            for row in compare(cases, settings, f"{COMPILED}: {what}", "C4", kind, 8, 32):
                yield replace(row, group="-" if row.method.startswith("plain") else "C4")


def _case(settings: Settings, size: int, kind: str, group: str, batch: int) -> Iterator[Measurement]:
    symmetry, shape = group_symmetry(group, size)
    order = symmetry.group.order
    if batch * order * shape[0] * size * size > _MOST_PIXELS * (4 if settings.device != "cpu" else 1):
        return
    device = torch.device(settings.device)
    x = torch.randn(batch, *shape, device=device)
    all_views = torch.randn(batch * order, *shape, device=device)
    plain = backbone(kind, shape).to(device)
    methods = {name: make(backbone(kind, shape), symmetry).to(device) for name, make in METHODS.items()}
    for what, timed in ((FORWARD, _forward), (TRAIN, _train)):
        if what == TRAIN and batch == 1:
            continue
        cases = {"plain": timed(plain, x), **{name: timed(module, x) for name, module in methods.items()}}
        yield from compare(cases, settings, what, group, kind, size, batch, order, timed(plain, all_views))


def _forward(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return module(x)

    return run


def _train(module: nn.Module, x: Tensor) -> Callable[[], object]:
    parameters = list(module.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        module(x).square().mean().backward()

    return run
