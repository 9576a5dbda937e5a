"""``equirl vision zero-shot`` and ``finetune``: every variant at every angle, resumable run by run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
from joblib import Parallel, delayed

from equirl.experiments.outputs import Table, write_tables
from equirl.experiments.runs import run_missing
from equirl.experiments.vision.config import StudyConfig, check_config, variants_of
from equirl.experiments.vision.features import compute_missing
from equirl.experiments.vision.measures import ERROR_COLUMNS, MEASURES, error_rows
from equirl.experiments.vision.training import is_main_process, join_processes, main_process_first, n_processes
from equirl.experiments.vision.workbench import Job, Workbench, workbench

__all__ = ["run_study"]


def run_study(config: StudyConfig) -> pd.DataFrame:
    """Run what is missing; write the tables that ``report_study`` reads, and ``record.json``; return the accuracies.

    Raises:
        ValueError: A setting cannot be used on this machine, or there are too few images.
    """
    check_config(config)
    join_processes(config.device)
    benches = _prepared(config)
    for message in benches[0].left_out:
        print(f"left out: {message}")
    variants = variants_of(config)
    parts = sorted({part for variant in variants for part in variant.parts})
    features = [each for bench in benches for each in bench.all_features(config.group, parts)]
    with main_process_first(config.device):
        compute_missing(features, config.n_jobs)
    jobs: list[Job] = []
    for variant in variants:
        trained = variant.trained != "nothing" or config.model == "small-cnn"
        for seed in range(config.seeds if trained else 1):
            jobs.append(Job(config, variant, seed, benches[min(seed, len(benches) - 1)].key))
    whole = [job for job in jobs if job.variant.trained == "whole"]
    frozen = [job for job in jobs if job.variant.trained != "whole"]
    weighed = [job for job in frozen if job.variant.method in ("equizero", "lambda_equitune")]
    picked = [job for job in weighed if job.variant.method == "equizero"]
    with main_process_first(config.device):
        for kind, some in (("study", frozen), ("weights", weighed), ("reliability", picked)):
            _run(config, some, kind)
    if whole:
        _run(config, whole, "study")
    with main_process_first(config.device):
        if is_main_process():
            tables: dict[str, Table] = {
                f"{kind}.csv": (MEASURES[kind][0], [job.file(kind) for job in some])
                for kind, some in (("study", jobs), ("weights", weighed), ("reliability", picked))
            }
            tables["errors.csv"] = (ERROR_COLUMNS, error_rows(benches[0], config.group))
            write_tables(config.out, tables, config)
    return pd.read_csv(config.out / "study.csv")


def _prepared(config: StudyConfig) -> list[Workbench]:
    """Return the workbench of every network; small CNNs are trained some at a time."""
    seeds = range(config.seeds if config.model == "small-cnn" else 1)
    if len(seeds) > 1 and config.n_jobs > 1 and n_processes() == 1:
        Parallel(n_jobs=config.n_jobs)(delayed(_prepare)(config, seed) for seed in seeds)
    return [workbench(config, seed) for seed in seeds]


def _prepare(config: StudyConfig, seed: int) -> None:
    workbench(config, seed)  # its network is kept in a file; it is not sent between processes


def _run(config: StudyConfig, jobs: Sequence[Job], kind: str) -> None:
    columns, rows_of = MEASURES[kind]
    n_jobs = config.n_jobs if n_processes() == 1 else 1  # processes that train together start no others
    run_missing(jobs, rows_of, partial(Job.file, kind=kind), columns, n_jobs)
