"""Export agents of every algorithm, network and method, and compare the files with the agents: a table of errors.

Not collected by an ordinary `pytest`. It takes about five minutes.

example:
  python tests/figures/exports.py --csv exports.csv
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
from exported_agents import ALGORITHMS, NETWORKS, agent

from equirl.agents import METHODS
from equirl.agents.export import export_onnx
from equirl.agents.export_check import random_observations, symmetric_observations
from equirl.agents.exported_policy import ExportedPolicy, exported_policy
from equirl.testing import evaluation_mode

_BATCHES = (1, 7)
_COLUMNS = (
    *("algorithm", "network", "method", "exporter", "batch", "answer_error", "equivariance_error", "wrong", "of"),
    *("cpu_seconds", "bytes"),
)
_WRONG = 1e-5


def main(arguments: Sequence[str] | None = None) -> int:
    """Export, compare, print and return the exit status: 1 if anything is off by more than 1e-5."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    print(" ".join(_COLUMNS))
    for name in options.algorithms:
        for network in NETWORKS:
            for method in METHODS:
                for exporter, write in (("default", _write), ("older", _write_older)):
                    rows += _rows(name, network, method, exporter, write)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return int(any(row["wrong"] or not row["equivariance_error"] <= _WRONG for row in rows))


def _write(model: Any, path: Path) -> None:
    export_onnx(model, path)


def _write_older(model: Any, path: Path) -> None:
    """Export as SB3's page says, with torch's older exporter and one sample."""
    policy = exported_policy(model).eval()
    example = random_observations(model.observation_space, 1, np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            policy, (example,), str(path), dynamo=False, opset_version=17,
            input_names=["observation"], dynamic_axes={"observation": {0: "batch"}},
        )  # fmt: skip


def _rows(
    name: str, network: str, method: str, exporter: str, write: Callable[[Any, Path], None]
) -> list[dict[str, Any]]:
    model = agent(name, network, method)
    policy = exported_policy(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.onnx")
        start = time.process_time()
        write(model, path)
        seconds = time.process_time() - start
        size = path.stat().st_size
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = []
    for batch in _BATCHES:
        errors, moved = _errors(session, policy, batch)
        wrong = int((errors > _WRONG).sum())
        found = (name, network, method, exporter, batch, float(errors.max()), moved, wrong, len(errors), seconds, size)
        rows.append(dict(zip(_COLUMNS, found, strict=True)))
        print(*(f"{value:.2g}" if isinstance(value, float) else value for value in found), flush=True)
    return rows


@torch.no_grad()
def _errors(session: Any, policy: ExportedPolicy, batch: int) -> tuple[Tensor, float]:
    """Return the difference from the agent for each of 49 or more observations, and the largest of equivariance."""
    numbers = np.random.default_rng(1)
    symmetry = policy.acting[0].symmetry
    space = policy.acting[0].observation_space
    seen: Any = random_observations(space, 35, numbers)
    order = symmetry.group.order
    elements = [1 + k % (order - 1) for k in range(14)]
    some = random_observations(space, 14, numbers)
    seen = torch.cat([seen, symmetric_observations(symmetry.observation, some, elements, numbers)])

    def run(observations: Tensor) -> Tensor:
        parts = [session.run(None, {"observation": part.numpy()})[0] for part in observations.split(batch)]
        return torch.from_numpy(np.concatenate(parts))

    with evaluation_mode(policy):
        expected = policy(seen)
    answers = run(seen)
    moved = [
        float((run(symmetry.observation.transform(g, seen)) - symmetry.action.transform(g, answers)).abs().max())
        for g in range(order)
    ]
    return (answers - expected).abs().flatten(1).amax(dim=1), max(moved)


if __name__ == "__main__":
    raise SystemExit(main())
