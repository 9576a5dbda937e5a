"""How time and memory grow with the group, the batch, the grid and the number of environments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from equirl import (
    Equitune,
    FiniteGroup,
    cyclic_group,
    dihedral_group,
    symmetric_group,
    tensor_product,
    trivial_representation,
)
from equirl.constructions import regular_representation
from equirl.experiments.cost.measurement import Measurement, per_item
from equirl.experiments.cost.passes import METHODS, backbone, group_symmetry, train_step
from equirl.experiments.timing import Settings, in_turns, peak_of_arrays, peak_of_tensors
from equirl.groups import direct_product

__all__ = ["SCALING", "fitted_exponents", "measure_scaling", "varied_number"]

SCALING = {
    "order": "forward + backward, by the order of the group",
    "batch": "forward + backward, by the batch",
    "grid": "forward + backward, by the size of the grid",
    "environments": "vectorised GridWorld step, by the number of environments",
}
"""What is varied, to what the rows say that was done."""

_WIDTH = 48


def measure_scaling(settings: Settings) -> Iterator[Measurement]:
    """Yield time and peak memory of equitune over orders 1 to 48, batches, grid sizes and numbers of environments."""
    quick = settings.quick
    for group in _groups()[:: 2 if quick else 1]:
        copies = trivial_representation(group, (_WIDTH // group.order,))
        rep = tensor_product(regular_representation(group), copies)
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Flatten(), nn.Linear(_WIDTH, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4)
        )
        module = Equitune(net, rep, trivial_representation(group, (4,))).to(settings.device)
        x = torch.randn(64, *rep.shape, device=settings.device)
        run = train_step(module, x)
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
        run = _steps(vector, actions)
        row = _one(settings, SCALING["environments"], "-", "-", 7, n, run, peak_of_arrays(run))
        yield per_item(row, len(actions))


def fitted_exponents(rows: list[Measurement]) -> dict[str, tuple[float, float]]:
    """Return for each thing varied the exponents of time and of memory, least squares of logarithms.

    The smallest half is left out, where constant costs hide the growth.
    """
    exponents = {}
    for varied, what in SCALING.items():
        chosen = [row for row in rows if row.what == what]
        if len(chosen) < 2:
            continue
        x = np.array([varied_number(varied, row) for row in chosen], dtype=float)
        order = np.argsort(x)
        half = order[len(order) // 2 - (1 if len(order) < 4 else 0) :]
        seconds = np.array([row.seconds for row in chosen])
        peaks = np.array([row.peak_mb for row in chosen])
        time = float(np.polyfit(np.log(x[half]), np.log(seconds[half]), 1)[0])
        memory = float(np.polyfit(np.log(x[half]), np.log(peaks[half]), 1)[0])
        exponents[varied] = (time, memory)
    return exponents


def varied_number(varied: str, row: Measurement) -> int:
    """Return the number that was varied in a row of ``SCALING``."""
    return row.batch if varied in ("batch", "environments") else row.size


def _groups() -> list[FiniteGroup]:
    pair = cyclic_group(2)
    return [
        cyclic_group(1),
        cyclic_group(2),
        cyclic_group(4),
        dihedral_group(4),
        cyclic_group(12),
        symmetric_group(4),
        direct_product(symmetric_group(4), pair),
    ]


def _on_images(settings: Settings, what: str, kind: str, size: int, batch: int) -> Measurement:
    symmetry, shape = group_symmetry("C4", size)
    module = METHODS["equitune"](backbone(kind, shape), symmetry).to(settings.device)
    x = torch.randn(batch, *shape, device=settings.device)
    run = train_step(module, x)
    return _one(settings, what, "C4", kind, size, batch, run, peak_of_tensors(run, settings.device))


def _one(
    settings: Settings, what: str, group: str, kind: str, size: int, batch: int, run: Callable[[], object], peak: float
) -> Measurement:
    low, middle, high = np.percentile(in_turns({"run": run}, settings)["run"], [25, 50, 75])
    return Measurement(
        what,
        "equitune" if kind != "-" else "vectorised, Gymnasium",
        group,
        kind,
        size,
        batch,
        float(middle),
        float(low),
        float(high),
        rounds=settings.rounds,
        peak_mb=peak,
        device=settings.device_name,
        threads=settings.threads,
    )


def _steps(vector: Any, actions: Any) -> Callable[[], object]:
    def run() -> None:
        for action in actions:
            vector.step(action)

    return run
