"""How time and memory grow with the group, the batch, the grid and the number of environments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

from equirl import Equitune, cyclic_group, dihedral_group, symmetric_group, tensor_product, trivial_representation
from equirl.constructions import regular_representation
from equirl.experiments.cost.measurement import Measurement, compare, per_item
from equirl.experiments.cost.passes import METHODS, backbone, group_symmetry, train_step
from equirl.experiments.cost.training import stepping
from equirl.experiments.timing import Settings, peak_of_arrays, peak_of_tensors
from equirl.groups import direct_product

__all__ = ["SCALING", "VARIED", "fitted_exponents", "measure_scaling"]

SCALING = {
    "order": "forward + backward, by the order of the group",
    "batch": "forward + backward, by the batch",
    "grid": "forward + backward, by the size of the grid",
    "environments": "vectorised GridWorld step, by the number of environments",
}
"""What is varied, to what the rows say that was done."""

VARIED = {"order": "size", "batch": "batch", "grid": "size", "environments": "batch"}
"""What is varied, to the column that holds the number."""

_WIDTH = 48
_GROUPS = (
    *(cyclic_group(1), cyclic_group(2), cyclic_group(4), dihedral_group(4), cyclic_group(12), symmetric_group(4)),
    direct_product(symmetric_group(4), cyclic_group(2)),
)


def measure_scaling(settings: Settings) -> Iterator[Measurement]:
    """Yield time and peak memory of equitune over orders 1 to 48, batches, grid sizes and numbers of environments."""
    quick = settings.quick
    for group in _GROUPS[:: 2 if quick else 1]:
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


def fitted_exponents(table: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return for each thing varied the exponents of time and of memory, least squares of logarithms.

    The smallest half is left out, where constant costs hide the growth.

    Args:
        table: Rows of the bench, with the fields of ``Measurement`` as columns.
    """
    exponents = {}
    for varied, what in SCALING.items():
        chosen = table[table.what == what].sort_values(VARIED[varied])
        if len(chosen) < 2:
            continue
        half = chosen[len(chosen) // 2 - (1 if len(chosen) < 4 else 0) :]
        logarithms = np.log(half[[VARIED[varied], "seconds", "peak_mb"]].to_numpy(float))
        time, memory = (float(np.polyfit(logarithms[:, 0], logarithms[:, k], 1)[0]) for k in (1, 2))
        exponents[varied] = (time, memory)
    return exponents


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
