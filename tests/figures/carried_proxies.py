"""The agents' proxy loss `novelty` on pictures, beside the pictures' own: how often each picks the upright view.

A small CNN learns upright training pictures. Test pictures are turned by a random quarter turn; equizero over C4
picks a view by each proxy loss. `novelty` is the distance of a view's pixels to the nearest of 2,000 training
pictures, with no look at the network. Not collected by an ordinary `pytest`; needs the extra `vision`.

example:
  python tests/figures/carried_proxies.py --out experiments/results/carried_proxies
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equirl import Equitune, Equizero, cyclic_group, image_representation, trivial_representation
from equirl.agents import Novelty
from equirl.experiments.records import write_record
from equirl.experiments.vision.image_sets import load_images, read_images
from equirl.orbit import Orbit

_COLUMNS = ("images", "seed", "proxy_loss", "picks_upright", "upright", "turned", "equitune", "equizero")
_SETS = ("mnist", "fashion-mnist")
_SIDE, _TRAIN, _TEST, _STEPS, _BATCH = 28, 6000, 2000, 1500, 64
_C4 = cyclic_group(4)
_TURNS = image_representation(_C4, (1, _SIDE, _SIDE))


@dataclass(frozen=True)
class _Settings:
    """What the record keeps."""

    seeds: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the table and the record, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of study.csv and record.json")
    parser.add_argument("--seeds", type=int, default=3, help="networks for each set of pictures (3)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is at least 1; got {options.seeds}")
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "study.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for images in _SETS:
            for seed in range(options.seeds):
                for row in _rows(images, seed):
                    writer.writerow([images, seed, *row])
                    print(images, seed, *row, sep="\t", flush=True)
    write_record(options.out / "record.json", _Settings(options.seeds))
    return 0


def _rows(images: str, seed: int) -> Iterator[tuple[Any, ...]]:
    known, labels = _pictures(images, "train", _TRAIN)
    test, answers = _pictures(images, "test", _TEST)
    network = _trained(known, labels, seed)
    elements = torch.randint(0, 4, (len(test),), generator=torch.Generator().manual_seed(seed))
    turned = _TURNS.transform_each(elements, test)
    upright = _C4.inverses[elements]  # the view that shows a picture as it was
    still = trivial_representation(_C4, (10,))
    plain = [_accuracy(network, x, answers) for x in (test, turned)]
    averaged = _accuracy(Equitune(network, _TURNS, still), turned, answers)
    for name, loss in (
        ("max_value", "max_value"),
        ("confidence", _confidence),
        ("entropy", "entropy"),
        ("novelty", Novelty(known)),
    ):
        module = Equizero(network, _TURNS, still, proxy_loss=loss).eval()
        weights = torch.cat([module.orbit_weights(part).detach() for part in turned.split(200)])
        picked = float(weights.gather(1, upright.unsqueeze(1)).mean())
        row = (picked, *plain, averaged, _accuracy(module, turned, answers))
        yield name, *(round(value, 4) for value in row)


def _pictures(images: str, split: str, n: int) -> tuple[Tensor, Tensor]:
    found = load_images(images, split)
    rows = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[:n].tolist()
    return read_images(found, rows, _SIDE)[:, :1], torch.as_tensor(found.labels[rows]).long()


def _trained(x: Tensor, labels: Tensor, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for _ in range(_STEPS):
        rows = torch.randint(0, len(x), (_BATCH,))
        loss = nn.functional.cross_entropy(network(x[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


def _confidence(orbit: Orbit) -> Tensor:
    return -orbit.outputs.softmax(dim=2).amax(dim=2)


def _accuracy(network: nn.Module, x: Tensor, answers: Tensor) -> float:
    with torch.no_grad():
        said = torch.cat([network(part).argmax(dim=1) for part in x.split(200)])
    return float((said == answers).double().mean())


if __name__ == "__main__":
    sys.exit(main())
