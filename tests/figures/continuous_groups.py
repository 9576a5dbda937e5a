"""What finitely many angles and frames do for the turns of the plane, and what universality is worth far away.

`quadrature`: the equivariance error of equitune over C_n at random angles between those of C_n, for networks of random
weights, relative to the largest output; and that of frames, which is rounding. `far`: networks that learn the field
f(v) = |v| (v + Jv) (J a quarter turn) on the disc of radius 1, and their errors on circles of larger radius, relative
to |f|. Not collected by an ordinary `pytest`.

example:
  python tests/figures/continuous_groups.py --out experiments/results/continuous_groups
"""

from __future__ import annotations

import argparse
import csv
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equirl import Equitune
from equirl.experiments.figures import (
    draw_band,
    legend_outside,
    log_axis,
    make_panels,
    reference_line,
    save_figure,
    styles_of,
)
from equirl.experiments.records import write_record
from equirl.plane import PlaneElements, PlaneFrames, PlaneVectors

_ANGLES = 1000
_COUNTS = (3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32)
_WIDTHS = (1.0, 3.0)  # of the first layer's weights: a smooth network, and a rough one
_RADII = (0.5, 1.0, 1.5, 2.0, 4.0, 8.0)
_STEPS, _BATCH = 3000, 256

Network = Callable[[Tensor], Tensor]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write both tables and the record, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of quadrature.csv, far.csv and record.json")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each kind (5)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is at least 1; got {options.seeds}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, columns, rows in (
        ("quadrature", ("network", "method", "n", "seed", "mean_error", "largest_error"), _quadrature(options.seeds)),
        ("far", ("method", "seed", "radius", "error"), _far(options.seeds)),
    ):
        with (options.out / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow(row)
                print(*row, sep="\t", flush=True)
    _draw(options.out)
    write_record(options.out / "record.json", _Settings(options.seeds))
    return 0


def _draw(folder: Path) -> None:
    """Draw the error by the number of angles: the median of the networks, and all of them as a band."""
    with (folder / "quadrature.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figure, [[axes]] = make_panels(width=6, height=3.6)
    kinds = list(dict.fromkeys(row["network"] for row in rows))
    for kind, style in styles_of([f"{kind} network" for kind in kinds]).items():
        of_n = [
            sorted(float(r["mean_error"]) for r in rows if f"{r['network']} network" == kind and r["n"] == str(n))
            for n in _COUNTS
        ]
        middle = [each[len(each) // 2] for each in of_n]
        draw_band(axes, _COUNTS, middle, ([each[0] for each in of_n], [each[-1] for each in of_n]), kind, style)
    frames = max(float(row["mean_error"]) for row in rows if row["method"] == "frames")
    reference_line(axes, frames, "frames, one view")
    log_axis(axes, "y", "equivariance error, relative", [1, 1e-4, 1e-8, 1e-12, 1e-16])
    axes.yaxis.set_major_formatter("{x:.0e}")
    axes.set_xlabel("angles n, views of each input")
    axes.set_ylim(1e-17, 1)
    legend_outside(figure)
    save_figure(figure, folder / "quadrature.png")


@dataclass(frozen=True)
class _Settings:
    seeds: int
    angles: int = _ANGLES
    steps: int = _STEPS
    batch_size: int = _BATCH


def _quadrature(seeds: int) -> Iterator[tuple[Any, ...]]:
    inputs, outputs = PlaneVectors("vector", "vector"), PlaneVectors("vector")
    for width in _WIDTHS:
        for seed in range(seeds):
            torch.manual_seed(seed)
            backbone = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2)).double()
            with torch.no_grad():
                backbone[0].weight.mul_(width * 2)
            kind = "smooth" if width == min(_WIDTHS) else "rough"
            for n in _COUNTS:
                turns = inputs.sampled(n).double(), outputs.sampled(n).double()
                yield kind, "equitune", n, seed, *_errors(Equitune(backbone, *turns), inputs, outputs)
            yield kind, "frames", 1, seed, *_errors(PlaneFrames(backbone, inputs, outputs), inputs, outputs)


def _errors(network: Network, inputs: PlaneVectors, outputs: PlaneVectors) -> tuple[float, float]:
    """Return the mean and the largest equivariance error at random angles."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(_ANGLES, 4, generator=generator, dtype=torch.float64)
    g = PlaneElements.sample(_ANGLES, generator=generator)
    g = PlaneElements(g.angle.double(), g.mirror, g.move.double())
    with torch.no_grad():
        there = outputs.transform(g, network(x))
        off = (network(inputs.transform(g, x)) - there).norm(dim=1) / there.norm(dim=1).max()
    return float(off.mean()), float(off.max())


def _far(seeds: int) -> Iterator[tuple[Any, ...]]:
    vector = PlaneVectors("vector")
    for method in ("plain", "equitune C4", "equitune C16", "frames"):
        for seed in range(seeds):
            torch.manual_seed(seed)
            backbone = nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
            network: nn.Module = backbone
            if method == "frames":
                network = PlaneFrames(backbone, vector, vector)
            elif method != "plain":
                turns = vector.sampled(int(method.removeprefix("equitune C")))
                network = Equitune(backbone, turns, turns)
            optimizer = torch.optim.Adam(network.parameters(), 2e-3)
            for _ in range(_STEPS):
                radius, angle = torch.rand(_BATCH).sqrt(), torch.rand(_BATCH) * 2 * math.pi
                v = _polar(radius, angle)
                loss = (network(v) - _field(v)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            for radius in _RADII:
                v = _polar(torch.full((360,), radius), torch.arange(360) * math.pi / 180)
                with torch.no_grad():
                    off = (network(v) - _field(v)).norm(dim=1) / _field(v).norm(dim=1)
                yield method, seed, radius, float(off.mean())


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _field(v: Tensor) -> Tensor:
    turned = torch.stack([-v[:, 1], v[:, 0]], dim=1)
    return v.norm(dim=1, keepdim=True) * (v + turned)


if __name__ == "__main__":
    sys.exit(main())
