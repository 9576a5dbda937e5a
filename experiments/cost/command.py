"""``equirl bench``: one command, one run, everything side by side."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from tqdm import tqdm

from equirl.agents.cli.option_checks import check_counts
from equirl.agents.cli.subcommands import run_command
from equirl.arguments import real_number
from equirl.experiments.cost.measurement import COLUMNS, Measurement
from equirl.experiments.cost.passes import measure_kernels, measure_passes, measure_scaling
from equirl.experiments.cost.peers import measure_peers
from equirl.experiments.cost.report import report_bench
from equirl.experiments.cost.training import measure_environments, measure_sequences, measure_training, read_learning
from equirl.experiments.records import commit, machine
from equirl.experiments.study import CommonOptions, Stage, Study, run_study
from equirl.experiments.tables import Rows
from equirl.experiments.timing import Settings
from equirl.names import check_names

__all__ = ["BENCH", "BenchOptions", "main"]

_HELP = """\
What symmetrization costs: each thing measured beside the plain one, in turns, medians with quartiles.

sections: passes (forward and backward), kernels (how a batch is moved), training (SB3 steps), environments
(vectorised GridWorld), peers (other libraries, where they are installed), scaling (time and memory by group, batch,
grid, environments), sequences (SCAN models in batches and one command at a time), learning (wall time until the
GridWorld is learned, from the results of `equirl study rl`)

Sections that were measured with the same settings, commit and machine are kept; delete the folder runs in --out to
measure them again.

examples:
  equirl bench --quick                            the smaller part of everything, within 2 minutes
  equirl bench --sections passes training         only these
  equirl bench --csv figures.csv                  the rows, one for each measurement, there too
  equirl bench --report-only                      tables and figures from bench.csv as it is
"""

SectionName = Literal["passes", "kernels", "training", "environments", "peers", "scaling", "sequences", "learning"]


@dataclass(frozen=True)
class BenchOptions(CommonOptions):
    """Settings of the bench; every one is recorded beside the results."""

    out: Path = Path("logs/bench")
    """Folder of bench.csv, bench.md, record.json and the figures."""
    n_jobs: int = 1
    """Sections at a time; more than one disturb each other's figures."""
    device: str = "auto"
    """Torch device; auto: CUDA where there is a GPU."""
    sections: tuple[SectionName, ...] = get_args(SectionName)
    """What to measure."""
    quick: bool = False
    """The smaller part of each section, two rounds, within 2 minutes on 2 cores."""
    rounds: int = 9
    """Times that each thing has its turn."""
    min_seconds: float = 0.05
    """How long a turn lasts at least."""
    study: Path | None = None
    """Folder of the learning study's results, for the section learning; by default logs/study/rl, where `equirl
    study rl` writes, or else that of this project's own figures, experiments/results/gridworld_7x7."""
    peers_python: str | None = None
    """A Python with escnn or equiadapt, for the section peers; see experiments/README.md."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("section", self.sections, get_args(SectionName))
        check_counts(self, "rounds")
        real_number(self.min_seconds, "min_seconds", least=0)


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl bench`` and return its exit status."""
    return run_command("equirl bench", BenchOptions, _bench, arguments, _HELP)


def _bench(options: BenchOptions) -> int:
    if options.device == "auto":
        options = replace(options, device="cuda" if torch.cuda.is_available() else "cpu")
    return run_study(BENCH, options)


_Job = tuple[BenchOptions, SectionName]


def _check(options: BenchOptions) -> None:
    python = options.peers_python
    if python is not None and shutil.which(python) is None:
        raise ValueError(f"--peers-python {python} is no program; name a Python with escnn or equiadapt")
    study = _study_of(options)
    if "learning" in options.sections and study is not None:
        list(read_learning(study, _settings(options)))  # a damaged study is an error now, not after the other sections
    if options.device.startswith("cuda"):
        print(f"GPU: {torch.cuda.get_device_name(options.device)}")
    else:
        print(f"No GPU is used: these are the figures of the {options.device.upper()}.")


def _stages(options: BenchOptions) -> list[Stage[_Job]]:
    jobs: list[_Job] = [(options, section) for section in options.sections]
    return [Stage(jobs, _run, _file_of, COLUMNS, table="bench.csv")]


def _file_of(job: _Job) -> Path:
    options, section = job
    decisive: list[object] = [commit(), machine(), torch.__version__, asdict(_settings(options))]
    if section == "peers":
        decisive.append(options.peers_python)
    if section == "learning":
        study = _study_of(options)
        decisive.append(None if study is None else hashlib.sha256((study / "study.csv").read_bytes()).hexdigest())
    return options.run_file(section, *decisive)


def _run(job: _Job) -> Rows:
    options, section = job
    rows = tqdm(_measured(options, section), desc=section, unit=" rows", file=sys.stderr, mininterval=1)
    return [[_shown(values[column]) for column in COLUMNS] for values in map(asdict, rows)]


def _measured(options: BenchOptions, section: SectionName) -> Iterable[Measurement]:
    settings = _settings(options)
    if section == "peers":
        return measure_peers(settings, options.peers_python)
    if section != "learning":
        return _SECTIONS[section](settings)
    folder = _study_of(options)
    if folder is None:
        looked = ", ".join(map(str, _STUDIES if options.study is None else (options.study,)))
        print(f"learning: {looked} holds no study.csv; `equirl study rl` writes one", file=sys.stderr)
        return ()
    print(f"learning: read from {folder}", file=sys.stderr)
    return read_learning(folder, settings)


def _settings(options: BenchOptions) -> Settings:
    rounds, min_seconds = (2, 0.005) if options.quick else (options.rounds, options.min_seconds)
    return Settings(options.device, options.threads, rounds, min_seconds, options.quick)


def _study_of(options: BenchOptions) -> Path | None:
    """Return the folder of the learning study, if there is one."""
    folders = _STUDIES if options.study is None else (options.study,)
    return next((folder for folder in folders if (folder / "study.csv").exists()), None)


def _shown(value: object) -> object:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return value


_STUDIES = (Path("logs/study/rl"), Path("experiments/results/gridworld_7x7"))
"""Where the section learning looks for a study."""

_SECTIONS: dict[SectionName, Callable[[Settings], Iterator[Measurement]]] = {
    "passes": measure_passes,
    "kernels": measure_kernels,
    "training": measure_training,
    "environments": measure_environments,
    "scaling": measure_scaling,
    "sequences": measure_sequences,
}

BENCH = Study(_stages, lambda options: report_bench(options.out), _check, table="bench.csv", summary="bench.md")
"""``equirl bench``."""
