import contextlib
import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from cluster_runs import square
from killed_studies import SMALL, open_everything

from equirl.experiments.records import write_tables
from equirl.experiments.runs import Rows, run_missing
from equirl.experiments.study import CommonOptions
from equirl.experiments.tables import write_rows


def test_only_missing_runs_are_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "1.csv").write_text("kept")
    run_missing(range(3), square, lambda job: tmp_path / f"{job}.csv", ("n", "square", "process"), 1)
    assert "3 runs, 2 to do" in capsys.readouterr().out
    assert (tmp_path / "1.csv").read_text() == "kept"
    assert (tmp_path / "2.csv").read_text().startswith("n,square,process\n2,4,")


def test_a_run_that_fails_leaves_those_before_it(tmp_path: Path) -> None:
    def run(job: int) -> Rows:
        if job == 2:
            raise RuntimeError("stopped")
        return square(job)

    with pytest.raises(RuntimeError, match="stopped"):
        run_missing(range(4), run, lambda job: tmp_path / f"{job}.csv", ("n", "square", "process"), 1)
    assert [path.name for path in sorted(tmp_path.glob("*.csv"))] == ["0.csv", "1.csv"]


def test_the_workers_of_a_dask_cluster_do_the_runs(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="pip install 'equirl[bench]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tcp://127.0.0.1")
        run_missing(range(5), square, lambda job: tmp_path / f"{job}.csv", ("n", "square", "process"), 1, address)
    rows = [(tmp_path / f"{n}.csv").read_text().splitlines()[1].split(",") for n in range(5)]
    assert [row[0] for row in rows] == ["0", "1", "2", "3", "4"]
    assert all(int(row[2]) != os.getpid() for row in rows)


def test_an_address_of_no_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="named by its address"):
        run_missing(range(1), square, lambda job: tmp_path / "x.csv", ("n",), 1, "my-cluster")


def test_texts_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [("a\rb", 1), ("c\nd", 2), ('e"f,g', 3), ("ü\r\n", 4)]
    write_rows(tmp_path / "run.csv", ("text", "n"), rows)
    write_tables(tmp_path, {"all.csv": (("text", "n"), [tmp_path / "run.csv"])}, CommonOptions())
    with (tmp_path / "all.csv").open(newline="", encoding="utf-8") as file:
        assert [(row["text"], int(row["n"])) for row in csv.DictReader(file)] == rows
    assert pd.read_csv(tmp_path / "all.csv").text.tolist() == [text for text, _ in rows]


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_study_that_is_asked_to_stop_takes_its_workers_along(tmp_path: Path, asked: signal.Signals) -> None:
    out = tmp_path / "study"
    before = signal.signal(asked, signal.SIG_DFL)  # under nohup it is ignored, here and in what is started from here
    command = [sys.executable, "-m", "equirl", *SMALL, "--seeds", "200", "--out", str(out), "--n-jobs", "2"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as study:
        assert study.stdout is not None
        try:
            assert any(" seed " in line for line in study.stdout)  # a run is done
            study.send_signal(asked)
            rest, _ = study.communicate(timeout=60)  # ends when the last worker has closed the pipe
        finally:
            signal.signal(asked, before)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(study.pid, signal.SIGKILL)
    assert study.returncode == 128 + asked
    assert rest.splitlines()[-1] == f"equirl: interrupted by {asked.name}"
    open_everything(out)
