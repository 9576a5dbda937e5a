"""Passes of every method beside the plain backbone and the floor, how they grow, and the kernels under them."""

from __future__ import annotations

import copy
import math
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from itertools import product
from typing import cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

import equirl.envs  # noqa: F401 (registers the grid's symmetries)
from equirl import (
    Canonical,
    Equitune,
    Equizero,
    LambdaEquitune,
    MDPSymmetry,
    MonomialRepresentation,
    build_symmetry,
    cyclic_group,
    dihedral_group,
    permutation_representation,
    symmetric_group,
    tensor_product,
    trivial_representation,
)
from equirl.constructions import channel_representation, regular_representation
from equirl.displacements import displacement_representation
from equirl.experiments.cost.measurement import Measurement, compare, per_item
from equirl.experiments.cost.training import stepping
from equirl.experiments.timing import Settings, peak_of_arrays, peak_of_tensors
from equirl.groups import direct_product
from equirl.monomial_kernels import MonomialKernels
from equirl.plane_groups import torus_symmetries
from equirl.representations import Representation

__all__ = [
    *("COMPILED", "FORWARD", "METHODS", "SCALING", "TRAIN", "Loop", "backbone", "group_symmetry"),
    *("kernel_cases", "measure_kernels", "measure_passes", "measure_scaling", "train_step"),
]

FORWARD = "forward"
TRAIN = "forward + backward"
COMPILED = "torch.compile"

_GROUPS = ("C4", "D4", "S4")
_MOST_PIXELS = 26_000_000  # of all views of a batch: beyond, a single case takes minutes

SCALING = {
    "order": "forward + backward, by the order of the group",
    "batch": "forward + backward, by the batch",
    "grid": "forward + backward, by the size of the grid",
    "environments": "vectorised GridWorld step, by the number of environments",
}
"""What is varied, to what the rows say that was done."""

_WIDTH = 48

Cases = dict[str, Callable[[], Tensor]]

METHODS: dict[str, Callable[[nn.Module, MDPSymmetry], nn.Module]] = {
    "equitune": lambda m, s: Equitune(m, s.observation, s.action),
    "lambda_equitune": lambda m, s: LambdaEquitune(m, s.observation, s.action, reads="inputs", hidden=(32,)),
    "equizero": lambda m, s: Equizero(m, s.observation, s.action),
    "canonical": lambda m, s: Canonical(m, s.observation, s.action),
    "loop": lambda m, s: Loop(m, s.observation, s.action),
}
"""Name to module; the policies' own settings."""


class Loop(nn.Module):
    """Equitune as one would first write it: one call of the backbone for each group element."""

    def __init__(self, backbone: nn.Module, input_rep: Representation, output_rep: Representation) -> None:
        super().__init__()
        self.backbone, self.input_rep, self.output_rep = backbone, input_rep, output_rep

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of ``g^-1 M(gx)``."""
        inverses = enumerate(self.input_rep.group.inverses.tolist())
        outputs = ((inverse, self.backbone(self.input_rep.transform(g, x))) for g, inverse in inverses)
        terms = (cast(Tensor, self.output_rep.transform(inverse, output)) for inverse, output in outputs)
        return reduce(torch.add, terms) / self.input_rep.group.order


def group_symmetry(name: str, size: int) -> tuple[MDPSymmetry, tuple[int, int, int]]:
    """Return a symmetry of images with four actions, and the images' shape.

    Args:
        name: ``"C4"`` or ``"D4"`` (they turn the image), or ``"S4"`` (it permutes four channels).
        size: Rows and columns.
    """
    if name != "S4":
        return build_symmetry(f"grid-{name.lower()}", (3, size, size), 4), (3, size, size)
    group, shape = symmetric_group(4), (4, size, size)
    assert group.natural_action is not None
    channels = channel_representation(group, shape, group.natural_action)
    return MDPSymmetry("channels", channels, permutation_representation(group)), shape


def backbone(kind: str, shape: Sequence[int]) -> nn.Module:
    """Return an ``"mlp"``, or a ``"cnn"`` for images, with four outputs."""
    torch.manual_seed(0)
    if kind == "mlp":
        layers = [nn.Flatten(), nn.Linear(math.prod(shape), 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(128, 4))
    channels, size, _ = shape
    if size <= 16:
        convolutions = [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    else:
        convolutions = [
            *(nn.Conv2d(channels, 16, 5, stride=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, stride=2), nn.ReLU()),
        ]
    features = nn.Sequential(*convolutions, nn.Flatten())
    with torch.no_grad():
        n = features(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(features, nn.Linear(n, 128), nn.ReLU(), nn.Linear(128, 4))


def measure_passes(settings: Settings) -> Iterator[Measurement]:
    """Yield forward, and forward + backward, for groups, backbones, image sizes and batches."""
    sizes, groups, batches = ((8,), ("C4", "D4"), (1, 32)) if settings.quick else ((8, 64), _GROUPS, (1, 32, 256))
    most_pixels = _MOST_PIXELS * (4 if settings.device != "cpu" else 1)
    for size, kind, group, batch in product(sizes, ("mlp", "cnn"), groups, batches):
        symmetry, shape = group_symmetry(group, size)
        order = symmetry.group.order
        if batch * order * math.prod(shape) > most_pixels:
            continue
        x = torch.randn(batch, *shape, device=settings.device)
        all_views = torch.randn(batch * order, *shape, device=settings.device)
        modules = {"plain": backbone(kind, shape)}
        modules |= {name: make(backbone(kind, shape), symmetry) for name, make in METHODS.items()}
        for what in (FORWARD, TRAIN) if batch > 1 else (FORWARD,):
            cases = {name: _PASSES[what](module.to(settings.device), x) for name, module in modules.items()}
            views = _PASSES[what](modules["plain"], all_views)
            yield from compare(cases, settings, what, group, kind, size, batch, order, views)
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
        for what, timed in _PASSES.items():
            cases = {name: timed(module.to(settings.device), x) for name, module in modules.items()}
            for row in compare(cases, settings, f"{COMPILED}: {what}", "C4", kind, 8, 32):
                yield replace(row, group="-" if row.method.startswith("plain") else "C4")


def _forward(module: nn.Module, x: Tensor) -> Callable[[], object]:
    def run() -> object:
        with torch.no_grad():
            return module(x)

    return run


def train_step(module: nn.Module, x: Tensor) -> Callable[[], object]:
    """Return a forward and a backward pass, as a call."""
    parameters = list(module.parameters())

    def run() -> None:
        for parameter in parameters:
            parameter.grad = None
        module(x).square().mean().backward()

    return run


_PASSES = {FORWARD: _forward, TRAIN: train_step}


def measure_scaling(settings: Settings) -> Iterator[Measurement]:
    """Yield time and peak memory of equitune over orders 1 to 48, batches, grid sizes and numbers of environments."""
    quick, pair, s4 = settings.quick, cyclic_group(2), symmetric_group(4)
    groups = [cyclic_group(1), pair, cyclic_group(4), dihedral_group(4), cyclic_group(12), s4, direct_product(s4, pair)]
    for group in groups[:: 2 if quick else 1]:
        copies = trivial_representation(group, (_WIDTH // group.order,))
        rep = tensor_product(regular_representation(group), copies)
        module = Equitune(backbone("mlp", rep.shape), rep, trivial_representation(group, (4,))).to(settings.device)
        run = train_step(module, torch.randn(64, *rep.shape, device=settings.device))
        peak = peak_of_tensors(run, settings.device)
        yield _one(settings, SCALING["order"], str(group), "mlp", group.order, 64, run, peak)
    for batch in (4, 16, 64) if quick else (1, 4, 16, 64, 256, 1024):
        yield _on_images(settings, SCALING["batch"], "mlp", 8, batch)
    for size in (5, 10) if quick else (5, 8, 12, 16):
        yield _on_images(settings, SCALING["grid"], "cnn", size, 32)
    for n in (4, 64) if quick else (1, 4, 16, 64, 256, 1024):
        vector = gym.make_vec("equirl/GridWorld-v0", num_envs=n, vectorization_mode="vector_entry_point")
        vector.reset(seed=0)
        actions = np.random.default_rng(0).integers(4, size=(20, n))
        run = stepping(vector, actions)
        row = _one(settings, SCALING["environments"], "-", "-", 7, n, run, peak_of_arrays(run))
        yield per_item(row, len(actions))


def _on_images(settings: Settings, what: str, kind: str, size: int, batch: int) -> Measurement:
    symmetry, shape = group_symmetry("C4", size)
    module = METHODS["equitune"](backbone(kind, shape), symmetry).to(settings.device)
    run = train_step(module, torch.randn(batch, *shape, device=settings.device))
    return _one(settings, what, "C4", kind, size, batch, run, peak_of_tensors(run, settings.device))


def _one(
    settings: Settings, what: str, group: str, kind: str, size: int, batch: int, run: Callable[[], object], peak: float
) -> Measurement:
    method = "equitune" if kind != "-" else "vectorised, Gymnasium"
    (row,) = compare({method: run}, settings, what, group, kind, size, batch)
    return replace(row, group=group, ratio_to_plain=math.nan, peak_mb=peak)


def measure_kernels(settings: Settings) -> Iterator[Measurement]:
    """Yield the time of each kernel on D4's images and actions; ratios are to the operation that it replaces."""
    for what, group, size, batch, cases in kernel_cases(settings):
        yield from compare(cases, settings, what, group, "-", size, batch)


def kernel_cases(settings: Settings) -> Iterator[tuple[str, str, int, int, Cases]]:
    """Yield what is computed, the group, the size of a sample, the batch, and the ways to compute it."""
    symmetry, shape = group_symmetry("D4", 8)
    images, actions = symmetry.observation.to(settings.device), symmetry.permuted_actions.to(settings.device)
    assert isinstance(images, MonomialRepresentation)
    torch.manual_seed(0)
    yield "orbit of one image", "D4", shape[1], 1, _orbit_of_one(images, "take")
    large = group_symmetry("D4", 64)[0].observation.to(settings.device)
    yield "orbit of one image", "D4", 64, 1, _orbit_of_one(large, "vector")
    torus = torus_symmetries(7, 7, dihedral_group(4))
    steps = displacement_representation(torus, [(-1, 0), (0, -1), (1, 0), (0, 1), (0, 0)]).to(settings.device)
    for batch in (64,) if settings.quick else (32, 256):
        for dtype in (torch.float32, torch.uint8):
            rows = torch.randint(2, (batch, images.dim), device=settings.device).to(dtype)
            what = f"orbits of images, {str(dtype).removeprefix('torch.')}"
            yield what, "D4", shape[1], batch, _orbits(images, rows)
        values = torch.rand(batch, actions.group.order, *actions.shape, device=settings.device)
        yield "weighted sum of the orbit of 4 actions", "D4", 4, batch, _sums(actions, values)
        one_each, weights = torch.rand(batch, 5), torch.rand(batch, torus.order).softmax(dim=1)
        of_one = _sums_of_one(steps, one_each.to(settings.device), weights.to(settings.device))
        yield "weighted sum of all transforms of 5 actions", torus.name, 5, batch, of_one


def _orbit_of_one(images: Representation, ours: str) -> Cases:
    assert isinstance(images, MonomialRepresentation)
    index = images.index
    kernels = MonomialKernels(images.shape, index, index, None, None)
    one, columns = torch.rand(1, *images.shape, device=index.device), index.reshape(-1)
    return {"index_select": lambda: one.view(1, -1).index_select(1, columns), ours: lambda: kernels.views_of_one(one)}


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


def _sums_of_one(actions: MonomialRepresentation, values: Tensor, weights: Tensor) -> Cases:
    orbit = values.unsqueeze(1).expand(-1, actions.group.order, -1)
    return {
        "move and add": lambda: actions.combine(orbit, weights),
        "sum of matrices": lambda: actions.combine_one(values, weights),
    }
