"""One engine for all studies: jobs give rows, rows give CSV files, and these a record, tables and figures."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from matplotlib.figure import Figure

from equirl.agents.cli.option_checks import check_counts, check_device, check_output_file, check_output_folder
from equirl.experiments.figures import save_figure
from equirl.experiments.records import Table, write_tables
from equirl.experiments.runs import Rows, check_cluster, run_file, run_missing
from equirl.files import write_text, written_whole

__all__ = ["CommonOptions", "Report", "Stage", "Study", "StudyOptions", "run_stages", "run_study"]


@dataclass(frozen=True)
class CommonOptions:
    """Options of everything that runs jobs and writes a folder of results."""

    out: Path = Path("logs/study")
    """Folder of the results."""
    csv: Path | None = None
    """A CSV file that gets a copy of the results' table."""
    n_jobs: int = 2
    """Runs at a time, each in a process of its own."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://...) or a Ray cluster (ray://..., or ray://auto on one of its machines) that
    does the runs instead; runs that leave files for later ones need an --out that all workers see."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads of each run."""
    report_only: bool = False
    """Only write tables and figures again, from the CSV as it is."""

    def __post_init__(self) -> None:
        check_counts(self, "n_jobs", "threads")

    def run_file(self, name: str, *decisive: Any) -> Path:
        """Return the CSV file of one run: its name holds a hash of all settings that change its rows.

        Args:
            name: Name of the run.
            *decisive: Settings of the study that change the run, as JSON can hold them.
        """
        return run_file(self.out, name, [self.device, self.threads, *decisive])


@dataclass(frozen=True)
class StudyOptions(CommonOptions):
    """Options of every study."""

    seeds: int = 5
    """Seeds 0 .. seeds - 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "seeds")


Options = TypeVar("Options", bound=CommonOptions)
Job = TypeVar("Job")


@dataclass(frozen=True)
class Stage(Generic[Job]):
    """The runs of one kind; the stages of a study are done one after the other.

    Attributes:
        jobs: One job for each run, in the order in which they are begun.
        run: Does one job, perhaps in another process, and returns its rows.
        file_of: Returns the CSV file of a job's rows, see ``CommonOptions.run_file``.
        columns: Names of the rows' columns.
        table: CSV that gathers the rows of all runs; ``None`` if they only serve a later stage.
        order: Sort key of the runs in that table; by default the order of the jobs.
        leaves: Suffixes of the files that a run leaves beside its CSV. Where one is missing, the run is done again.
    """

    jobs: Sequence[Job]
    run: Callable[[Job], Rows]
    file_of: Callable[[Job], Path]
    columns: Sequence[str]
    table: str | None = "study.csv"
    order: Callable[[Job], Any] | None = None
    leaves: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """The results of a study, ready to be written.

    Attributes:
        text: Its tables, in Markdown.
        files: Name to figure, or to text, of each further file.
    """

    text: str
    files: Mapping[str, Figure | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study(Generic[Options]):
    """A study: what it runs, and how its results are shown.

    Attributes:
        stages: Returns the runs.
        report: Makes tables and figures from the files in ``options.out``.
        check: Checks the options before anything runs, as far as they depend on this machine or cost time.
        table: The CSV that ``--csv`` copies.
        summary: Name of the Markdown file.
    """

    stages: Callable[[Options], Sequence[Stage[Any]]]
    report: Callable[[Options], Report]
    check: Callable[[Options], None] | None = None
    table: str = "study.csv"
    summary: str = "summary.md"


def run_study(study: Study[Options], options: Options) -> int:
    """Do the runs that are missing, write tables, record and figures into ``options.out``, and return exit status 0.

    Args:
        study: The study.
        options: Its options.

    Raises:
        ValueError: A place, a device or a cluster that cannot be used, or a file that is damaged.
        FileNotFoundError: There is nothing to report on.
    """
    check_output_folder(options.out)
    check_output_file(options.csv, "--csv")
    written: list[str] = []
    if not options.report_only:
        check_device(options.device)
        check_cluster(options.cluster)
        if study.check is not None:
            study.check(options)
        written = [*run_stages(study.stages(options), options), "record.json"]
    report = study.report(options)
    files = {study.summary: report.text, **report.files}
    for name, content in files.items():
        if isinstance(content, Figure):
            save_figure(content, options.out / name)
        else:
            write_text(options.out / name, content)
    print(report.text)
    print(f"\nWritten to {options.out}: {', '.join([*written, *files])}")
    if options.csv is not None:
        with written_whole(options.csv) as temporary:
            shutil.copyfile(options.out / study.table, temporary)
        print(f"Written to {options.csv}")
    return 0


def run_stages(stages: Sequence[Stage[Any]], options: CommonOptions) -> list[str]:
    """Do the runs that are missing, stage by stage, write the tables and ``record.json``, and return the tables' names.

    States of trainings that were stopped (``.part``, see ``Stage.file_of``) are removed once all runs are done.
    """
    tables: dict[str, Table] = {}
    for stage in stages:
        for job in stage.jobs:
            path = stage.file_of(job)
            if not all(path.with_suffix(suffix).exists() for suffix in stage.leaves):
                path.unlink(missing_ok=True)  # what the run left is gone
        if stage.jobs:
            run_missing(
                stage.jobs, stage.run, stage.file_of, stage.columns, options.n_jobs, options.cluster, options.threads
            )
        if stage.table is not None:
            in_order = sorted(stage.jobs, key=stage.order) if stage.order else stage.jobs
            tables[stage.table] = (stage.columns, [stage.file_of(job) for job in in_order])
    for stage in stages:
        for job in stage.jobs:
            stage.file_of(job).with_suffix(".part").unlink(missing_ok=True)
    write_tables(options.out, tables, options)
    return list(tables)
