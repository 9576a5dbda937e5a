"""Workers that die in the middle of a study, and studies that are killed, lose nothing."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import cluster_runs
import pytest
from cluster_runs import fail, square_or_die
from killed_studies import (
    begin,
    dask_cluster,
    finish,
    kill,
    open_everything,
    ray_client_server,
    ray_cluster,
    rows_but_for_seconds,
)

from equirl.experiments.runs import run_missing

COLUMNS = ("n", "square", "process")


@contextmanager
def _cluster(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a cluster whose workers know the runs, and give its address."""
    if kind == "dask":
        pytest.importorskip("distributed", reason="pip install 'equirl[bench]'")
        with dask_cluster() as cluster:
            yield cluster.scheduler_address
    else:
        pytest.importorskip("ray", reason="pip install 'equirl[ray]'")
        pickle = importlib.import_module("ray.cloudpickle")
        pickle.register_pickle_by_value(cluster_runs)  # workers of Ray have another path
        try:
            with ray_cluster() as cluster:
                monkeypatch.setenv("RAY_ADDRESS", cluster.address)
                yield "ray://auto"
        finally:
            pickle.unregister_pickle_by_value(cluster_runs)


def _squares(folder: Path) -> list[list[str]]:
    return [(folder / f"{n}.csv").read_text().splitlines()[1].split(",")[:2] for n in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_run_whose_worker_dies_is_done_again_elsewhere(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def file_of(job: int) -> Path:
        return tmp_path / f"{job}.csv"

    with _cluster(kind, monkeypatch) as address:
        run_missing(range(4), partial(square_or_die, tmp_path), file_of, COLUMNS, 1, address)
        assert (tmp_path / "died").exists()
        assert _squares(tmp_path) == [["0", "0"], ["1", "1"], ["2", "4"], ["3", "9"]]
        kept = file_of(1).read_text()
        file_of(3).unlink()
        run_missing(range(4), partial(square_or_die, tmp_path), file_of, COLUMNS, 1, address)
        assert file_of(1).read_text() == kept
        with pytest.raises(ValueError, match=r"^run 0 cannot be done$"):
            run_missing(range(1), fail, lambda job: tmp_path / "fails.csv", COLUMNS, 1, address)


@pytest.mark.slow
def test_ray_is_reached_from_outside_with_its_token(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="pip install 'equirl[ray]'")
    with ray_client_server() as address:
        finish(begin(tmp_path / "study", address, {"RAY_AUTH_MODE": "token"}), tmp_path / "study")
    finish(begin(tmp_path / "here"), tmp_path / "here")
    assert rows_but_for_seconds(tmp_path / "study") == rows_but_for_seconds(tmp_path / "here")


@pytest.mark.slow
def test_a_study_whose_process_dies_says_so_and_the_same_command_goes_on(tmp_path: Path) -> None:
    def do() -> None:
        run_missing(range(4), partial(square_or_die, tmp_path), lambda job: tmp_path / f"{job}.csv", COLUMNS, 2)

    with pytest.raises(ValueError, match=r"a worker .*died .* the same command does the others"):
        do()
    kept = {path: path.read_text() for path in tmp_path.glob("*.csv")}
    do()
    assert _squares(tmp_path) == [["0", "0"], ["1", "1"], ["2", "4"], ["3", "9"]]
    assert all(path.read_text() == text for path, text in kept.items())


def test_a_ray_cluster_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="pip install 'equirl[ray]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    with pytest.raises(ValueError, match="no Ray cluster answers at ray://auto"):
        run_missing(range(1), fail, lambda job: tmp_path / "x.csv", COLUMNS, 1, "ray://auto")


def test_without_a_clusters_package_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, address, extra in (("ray", "ray://auto", "ray"), ("distributed", "tcp://127.0.0.1:1", "bench")):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ModuleNotFoundError, match=rf"pip install 'equirl\[{extra}\]'"):
            run_missing(range(1), fail, lambda job: tmp_path / "x.csv", COLUMNS, 1, address)


@pytest.mark.slow
def test_a_killed_study_opens_and_goes_on_to_the_same_rows(tmp_path: Path) -> None:
    def study(name: str) -> Any:
        return begin(tmp_path / name, n_jobs=1)

    finish(study("undisturbed"), tmp_path / "undisturbed")
    killed = study("killed")
    while killed.is_alive() and not any((tmp_path / "killed").glob("runs/[!.]*.csv")):
        killed.join(0.02)
    kill(killed)
    assert 1 <= open_everything(tmp_path / "killed") < 4
    assert "to do" in finish(study("killed"), tmp_path / "killed")
    assert rows_but_for_seconds(tmp_path / "killed") == rows_but_for_seconds(tmp_path / "undisturbed")
