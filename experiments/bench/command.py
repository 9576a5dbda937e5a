"""``equirl bench``: one command, one run, everything side by side."""

from __future__ import annotations

import csv
import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from equirl.arguments import real_number
from equirl.experiments.bench.learning import read_learning
from equirl.experiments.bench.passes import measure_passes
from equirl.experiments.bench.peers import measure_peers
from equirl.experiments.bench.report import draw_passes, draw_scaling, markdown
from equirl.experiments.bench.scaling import measure_scaling
from equirl.experiments.bench.sequences import measure_sequences
from equirl.experiments.bench.timing import COLUMNS, Measurement, Settings
from equirl.experiments.bench.training import measure_environments, measure_training
from equirl.experiments.checks import check_counts, check_names
from equirl.experiments.devices import check_device
from equirl.experiments.outputs import check_output_file, check_output_folder, keep_earlier, other_settings
from equirl.experiments.records import write_record
from equirl.experiments.subcommands import run_command
from equirl.files import written_whole

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
    study: Path | None = None
    """Folder of the learning study's results, for the section learning; by default logs/benchmark/rl, where `equirl
    benchmark rl` writes, or else that of this project's own figures, experiments/results/gridworld_7x7."""
    peers_python: str | None = None
    """A Python with escnn or equiadapt, for the section peers; see experiments/README.md."""
    csv: Path | None = None
    """A CSV file for the rows, beside the one in --out."""
    out: Path = Path("logs/bench")
    """Folder of bench.csv, bench.md, record.json and the plots."""

    def __post_init__(self) -> None:
        check_names("section", self.sections, _SECTIONS)
        check_counts(self, "rounds", "threads")
        real_number(self.min_seconds, "min_seconds", least=0)


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl bench`` and return its exit status."""
    threads = torch.get_num_threads()
    try:
        return run_command("equirl bench", BenchConfig, _bench, arguments, _HELP)
    finally:
        torch.set_num_threads(threads)


def _bench(config: BenchConfig) -> int:
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    check_output_folder(config.out)
    check_output_file(config.csv, "--csv")
    if config.peers_python is not None and shutil.which(config.peers_python) is None:
        raise ValueError(f"--peers-python {config.peers_python} is no program; name a Python with escnn or equiadapt")
    if device.startswith("cuda"):
        print(f"GPU: {torch.cuda.get_device_name(device)}")
    else:
        print(f"No GPU is used: these are the figures of the {device.upper()}.")
    torch.set_num_threads(config.threads)
    settings = Settings(
        device,
        config.threads,
        2 if config.quick else config.rounds,
        0.005 if config.quick else config.min_seconds,
        config.quick,
    )
    study = _study_of(config)
    if "learning" in config.sections and study is not None:
        list(read_learning(study, settings))  # a damaged study is an error now, not after the other sections
    if (config.out / "bench.csv").exists() and other_settings(config.out, config):
        keep_earlier(config.out)
    rows: list[Measurement] = []
    for section in config.sections:
        measured = _SECTIONS[section](settings, config)
        rows += tqdm(measured, desc=section, unit=" rows", file=sys.stderr, mininterval=1)
        _write_csv(config.out / "bench.csv", rows)  # what is measured is kept, whatever comes next
        write_record(config.out / "record.json", config)
    if config.csv is not None:
        _write_csv(config.csv, rows)
    text = markdown(rows)
    with written_whole(config.out / "bench.md") as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
    draw_passes(rows, config.out / "passes.png")
    draw_scaling(rows, config.out / "scaling.png")
    print(text)
    print(f"\nWritten to {config.out}: bench.csv, bench.md, record.json, plots")
    return 0


def _learning(settings: Settings, config: BenchConfig) -> Iterator[Measurement]:
    folder = _study_of(config)
    if folder is None:
        looked = ", ".join(map(str, _STUDIES if config.study is None else (config.study,)))
        print(f"learning: {looked} holds no study.csv; `equirl benchmark rl` writes one", file=sys.stderr)
        return iter(())
    print(f"learning: read from {folder}", file=sys.stderr)
    return read_learning(folder, settings)


def _study_of(config: BenchConfig) -> Path | None:
    """Return the folder of the learning study, if there is one."""
    folders = _STUDIES if config.study is None else (config.study,)
    return next((folder for folder in folders if (folder / "study.csv").exists()), None)


_STUDIES = (Path("logs/benchmark/rl"), Path("experiments/results/gridworld_7x7"))
"""Where the section learning looks for a study."""

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
