"""``equirl vision zero-shot`` and ``finetune``: every variant on every angle; resumable run by run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from equirl.experiments.outputs import Table, write_tables
from equirl.experiments.runs import Rows, run_missing
from equirl.experiments.vision.answers import answers
from equirl.experiments.vision.choices import (
    ERROR_COLUMNS,
    RELIABILITY_COLUMNS,
    WEIGHT_COLUMNS,
    error_rows,
    reliability_rows,
    weight_rows,
)
from equirl.experiments.vision.config import check_config, variants_of
from equirl.experiments.vision.jobs import Job, StudyConfig, workbench
from equirl.experiments.vision.orbit_features import compute_missing
from equirl.experiments.vision.processes import (
    in_several_processes,
    is_main_process,
    join_processes,
    main_process_first,
)
from equirl.experiments.vision.workbench import Workbench

__all__ = ["COLUMNS", "run_study"]

COLUMNS = (
    *("method", "group", "angle", "accuracy", "n", "seed"),
    *("level", "kind", "reads", "trained", "labels", "same"),
)
"""``same``: the share of images that get the answer they get when upright."""


def run_study(config: StudyConfig) -> pd.DataFrame:
    """Run what is not done yet; write the tables that ``report_study`` reads, and ``record.json``.

    Raises:
        ValueError: Something in the configuration cannot be used here, or there are too few images.
    """
    check_config(config)
    join_processes(config.device)
    variants = variants_of(config)
    parts = sorted({part for variant in variants for part in variant.parts})
    benches = _prepared(config)
    for message in benches[0].left_out:
        print(f"left out: {message}")
    wanted = [features for bench in benches for features in bench.all_features(config.group, parts)]
    with main_process_first(config.device):
        compute_missing(wanted, config.n_jobs)
    jobs: list[Job] = []
    for variant in variants:
        trained = variant.trained != "nothing" or config.model == "small-cnn"
        for seed in range(config.seeds if trained else 1):
            jobs.append(Job(config, variant, seed, benches[min(seed, len(benches) - 1)].key))
    whole = [job for job in jobs if job.variant.trained == "whole"]
    frozen = [job for job in jobs if job.variant.trained != "whole"]
    weighed = [job for job in frozen if job.variant.method in ("equizero", "lambda_equitune")]
    picked = [job for job in weighed if job.variant.method == "equizero"]
    n_jobs = 1 if in_several_processes() else config.n_jobs  # 1: in this process, one of those that go together
    with main_process_first(config.device):
        run_missing(frozen, _accuracy_rows, _accuracy_file, COLUMNS, n_jobs)
        run_missing(weighed, weight_rows, _weight_file, WEIGHT_COLUMNS, n_jobs)
        run_missing(picked, reliability_rows, _reliability_file, RELIABILITY_COLUMNS, n_jobs)
    if whole:
        run_missing(whole, _accuracy_rows, _accuracy_file, COLUMNS, n_jobs)
    with main_process_first(config.device):
        if is_main_process():
            tables: dict[str, Table] = {
                "study.csv": (COLUMNS, [_accuracy_file(job) for job in jobs]),
                "weights.csv": (WEIGHT_COLUMNS, [_weight_file(job) for job in weighed]),
                "reliability.csv": (RELIABILITY_COLUMNS, [_reliability_file(job) for job in picked]),
                "errors.csv": (ERROR_COLUMNS, error_rows(benches[0], config.group)),
            }
            write_tables(config.out, tables, config)
    return pd.read_csv(config.out / "study.csv")


def _prepared(config: StudyConfig) -> list[Workbench]:
    """Return the workbench of every network; small CNNs are trained some at a time."""
    seeds = range(config.seeds if config.model == "small-cnn" else 1)
    if len(seeds) > 1 and config.n_jobs > 1 and not in_several_processes():
        Parallel(n_jobs=config.n_jobs)(delayed(_make)(config, seed) for seed in seeds)
    return [workbench(config, seed) for seed in seeds]


def _make(config: StudyConfig, seed: int) -> None:
    workbench(config, seed)


def _accuracy_file(job: Job) -> Path:
    return job.file("study")


def _weight_file(job: Job) -> Path:
    return job.file("weights")


def _reliability_file(job: Job) -> Path:
    return job.file("reliability")


def _accuracy_rows(job: Job) -> Rows:
    variant, bench = job.variant, job.bench
    about = (variant.level, variant.kind, variant.reads, variant.trained, variant.labels)
    labels = bench.labels_of(bench.test)
    rows, upright = [], None
    for angle, found in answers(job):
        upright = found if upright is None else upright
        accuracy, same = (round(float((found == others).double().mean()), 6) for others in (labels, upright))
        rows.append((variant.method, variant.group, angle, accuracy, len(labels), job.seed, *about, same))
    return rows
