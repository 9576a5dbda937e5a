"""``equirl bench``: one command, one run, everything side by side."""

from __future__ import annotations

import csv
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from tqdm import tqdm

from equirl.agents.files import written_whole
from equirl.experiments.bench.learning import read_learning
from equirl.experiments.bench.passes import measure_passes
from equirl.experiments.bench.peers import measure_peers
from equirl.experiments.bench.report import draw_passes, draw_scaling, markdown
from equirl.experiments.bench.scaling import measure_scaling
from equirl.experiments.bench.sequences import measure_sequences
from equirl.experiments.bench.timing import COLUMNS, Measurement, Settings
from equirl.experiments.bench.training import measure_environments, measure_training
from equirl.experiments.records import write_record
from equirl.names import unknown_name_message

__all__ = ["BenchConfig", "main"]

_HELP = """\
What symmetrization costs: each thing measured beside the plain one, in turns, medians with quartiles.

sections: passes (forward and backward), training (SB3 steps), environments (vectorised GridWorld), peers (other
libraries, where they are installed), scaling (time and memory by group, batch, grid, environments), sequences (SCAN
models in batches and one command at a time), learning (wall time until the GridWorld is learned, from the results of
`equirl benchmark rl`)

examples:
  equirl bench --quick                            the smaller part of everything, within 2 minutes
  equirl bench --sections passes training         only these
  equirl bench --csv figures.csv                  the rows, one for each measurement, there too
"""


@dataclass(frozen=True)
class BenchConfig:
    """Settings of the bench; every one is recorded beside the results."""

    sections: tuple[str, ...] = ("passes", "training", "environments", "peers", "scaling", "sequences", "learning")
    """What to measure."""
    quick: bool = False
    """The smaller part of each section, two rounds, within 2 minutes on 2 cores."""
    rounds: int = 9
    """Times that each thing has its turn."""
    min_seconds: float = 0.05
    """How long a turn lasts at least."""
    device: str = "auto"
    """Torch device; auto: CUDA where there is a GPU."""
    threads: int = 1
    """Torch threads; networks this small run slower on two."""
    study: Path = Path("experiments/results/gridworld_7x7")
    """Folder of the learning study's results, for the section learning."""
    peers_python: str | None = None
    """A Python with escnn or equiadapt, for the section peers; see experiments/README.md."""
    csv: Path | None = None
    """A CSV file for the rows, beside the one in --out."""
    out: Path = Path("logs/bench")
    """Folder of bench.csv, bench.md, record.json and the plots."""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl bench`` and return its exit status."""
    config = tyro.cli(BenchConfig, args=list(arguments), prog="equirl bench", description=_HELP)
    for section in config.sections:
        if section not in _SECTIONS:
            print(f"equirl bench: {unknown_name_message('section', section, _SECTIONS)}", file=sys.stderr)
            return 2
    if config.rounds < 1 or config.threads < 1:
        print("equirl bench: rounds and threads must be at least 1", file=sys.stderr)
        return 2
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        print("No GPU is used: these are the CPU's figures.")
    else:
        print(f"GPU: {torch.cuda.get_device_name()}")
    torch.set_num_threads(config.threads)
    settings = Settings(
        device,
        config.threads,
        2 if config.quick else config.rounds,
        0.005 if config.quick else config.min_seconds,
        config.quick,
    )
    rows: list[Measurement] = []
    for section in config.sections:
        measured = _SECTIONS[section](settings, config)
        rows += tqdm(measured, desc=section, unit=" rows", file=sys.stderr, mininterval=1)
        _write_csv(config.out / "bench.csv", rows)  # what is measured is kept, whatever comes next
    if config.csv is not None:
        _write_csv(config.csv, rows)
    text = markdown(rows)
    with written_whole(config.out / "bench.md") as temporary:
        temporary.write_text(text + "\n")
    write_record(config.out / "record.json", config)
    draw_passes(rows, config.out / "passes.png")
    draw_scaling(rows, config.out / "scaling.png")
    print(text)
    print(f"\nWritten to {config.out}: bench.csv, bench.md, record.json, plots")
    return 0


def _learning(settings: Settings, config: BenchConfig) -> Iterator[Measurement]:
    if not (config.study / "study.csv").exists():
        print(f"learning: {config.study} holds no study.csv; `equirl benchmark rl` writes one", file=sys.stderr)
        return iter(())
    return read_learning(config.study, settings)


_SECTIONS: dict[str, Callable[[Settings, BenchConfig], Iterator[Measurement]]] = {
    "passes": lambda settings, config: measure_passes(settings),
    "training": lambda settings, config: measure_training(settings),
    "environments": lambda settings, config: measure_environments(settings),
    "peers": lambda settings, config: measure_peers(settings, config.peers_python),
    "scaling": lambda settings, config: measure_scaling(settings),
    "sequences": lambda settings, config: measure_sequences(settings),
    "learning": _learning,
}


def _write_csv(path: Path, rows: Sequence[Measurement]) -> None:
    with written_whole(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            values = dataclasses.asdict(row)
            writer.writerow([_shown(values[column]) for column in COLUMNS])


def _shown(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return value
