"""A pytest plugin that records each test's outcome, and how often the replaced part was made during the test.

``PEERS_RECORD`` names the file; every test adds one JSON line: its id, its outcome, the number of uses and the error's
text. Uses are counted in a file, so that processes started by a test count, too.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

RECORD = "PEERS_RECORD"
_COUNT = "PEERS_COUNT"


def count_use() -> None:
    """Note that a test made the part whose replacement is on trial."""
    if _COUNT in os.environ:
        with Path(os.environ[_COUNT]).open("ab") as file:
            file.write(b".")


def pytest_configure() -> None:
    descriptor, name = tempfile.mkstemp(prefix="peers_count_")
    os.close(descriptor)
    os.environ[_COUNT] = name  # each worker of pytest-xdist has its own; processes that tests start inherit it


def pytest_unconfigure() -> None:
    Path(os.environ.pop(_COUNT)).unlink(missing_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    report = yield
    count = Path(os.environ[_COUNT])
    if call.when == "setup":
        count.write_bytes(b"")
    if call.when == "call" or report.outcome != "passed":
        # With the message's tail: an error of a started process stands at the end of what it printed.
        error = "" if call.excinfo is None else f"{type(call.excinfo.value).__name__}: {call.excinfo.value}"
        printed = "" if report.outcome == "passed" else "".join(text for _, text in report.sections)[-4000:]
        line = {
            "test": item.nodeid,
            "outcome": report.outcome,
            "uses": count.stat().st_size,
            "error": error[:2000],
            "printed": printed,
        }
        if RECORD in os.environ:
            with Path(os.environ[RECORD]).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests that the file ``PEERS_ONLY`` names, one a line, and that are not in the record already."""
    chosen = {item.nodeid for item in items}
    if "PEERS_ONLY" in os.environ:
        chosen &= set(Path(os.environ["PEERS_ONLY"]).read_text(encoding="utf-8").splitlines())
    record = Path(os.environ.get(RECORD, ""))
    if record.is_file():
        chosen -= {json.loads(line)["test"] for line in record.read_text(encoding="utf-8").splitlines()}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]
