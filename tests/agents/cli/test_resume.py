"""``equirl train --resume``: a run that was killed ends as the run that was not."""

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from command_line import FAST, done, here
from stable_baselines3 import DQN
from warm_process import run_python

from equirl.agents.run_keeper import unfinished_run
from equirl.agents.snapshots import EvaluationsWhole

RUN = "dqn/equirl-GridWorld-v0_1"
SETTINGS = f"{RUN}/equirl-GridWorld-v0"
TRAIN = [
    *("train", "--method", "canonical", "--seed", "3", "-n", "480", "--eval-freq", "120", "--eval-episodes", "2"),
    *("--summary-episodes", "0", "--vec-env", "dummy", "--verbose", "0"),
]
KILLED = """
import os, signal, sys
from equirl.agents.snapshots import Snapshots
from equirl.command import main

def kill(self):
    if self.num_timesteps >= {steps}:
        os.kill(os.getpid(), signal.{signal})
    return True

Snapshots._on_step = kill
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _killed(folder: Path, steps: int, *more: str) -> None:
    assert _signalled(folder, steps, "SIGKILL", *more)[0] == -9


def _signalled(folder: Path, steps: int, signal: str, *more: str) -> tuple[int, str]:
    """Train until a signal comes at a step, and return the exit status and what was printed."""
    command = [*TRAIN, "-f", folder.name, "--snapshot-every", "0.001", *more, "-params", *FAST]
    process = run_python("-c", KILLED.format(steps=steps, signal=signal), *command, cwd=folder.parent)
    return process.returncode, process.stdout


def test_a_run_that_is_asked_to_stop_keeps_its_agent_and_goes_on(tmp_path: Path) -> None:
    done(*TRAIN, "-f", "whole", "-params", *FAST)
    status, said = _signalled(tmp_path / "cut", 300, "SIGTERM")
    assert (status, "Stopped before its last step" in said) == (0, True)
    assert 300 <= DQN.load(f"cut/{RUN}/equirl-GridWorld-v0.zip").num_timesteps < 480
    done("train", "--resume", "-f", "cut")
    _check_same("whole", "cut")


def test_a_killed_run_ends_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    done(*TRAIN, "-f", "whole", "-params", *FAST)
    _killed(tmp_path / "cut", 300)
    assert sorted(path.name for path in Path("cut", SETTINGS).iterdir()) == [
        *("args.yml", "command.txt", "config.yml", "snapshot.pkl", "started.json")
    ]
    DQN.load(f"cut/{RUN}/best_model.zip")  # what is there opens
    done("train", "--resume", "-f", "cut")
    _check_same("whole", "cut")
    assert not Path("cut", SETTINGS, "snapshot.pkl").exists()
    assert "all runs in cut have ended" in here("train", "--resume", "-f", "cut").err[-1]


def test_a_full_disk_loses_nothing_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(*TRAIN, "-f", "whole", "-params", *FAST)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    written = EvaluationsWhole._on_step

    def full_from_now_on(self: EvaluationsWhole) -> bool:
        goes_on = written(self)
        if self.num_timesteps >= 240:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
        return goes_on

    monkeypatch.setattr(EvaluationsWhole, "_on_step", full_from_now_on)
    try:
        outcome = here(*TRAIN, "-f", "cut", "--snapshot-every", "0.001", "-params", *FAST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert outcome.status == 2
    assert "make room and go on" in outcome.err[-1]
    assert not [path.name for path in Path("cut").rglob(".*")]  # nothing half-written is left
    assert np.load(f"cut/{RUN}/evaluations.npz")["timesteps"].tolist() == [120, 240]
    DQN.load(f"cut/{RUN}/best_model.zip")
    done("train", "--resume", "-f", "cut")
    _check_same("whole", "cut")


def _check_same(*folders: str) -> None:
    for name in ("timesteps", "results", "ep_lengths", "successes"):
        one, other = (np.load(f"{folder}/{RUN}/evaluations.npz")[name] for folder in folders)
        assert np.array_equal(one, other)
    agents = [DQN.load(f"{folder}/{RUN}/equirl-GridWorld-v0.zip") for folder in folders]
    weights = [agent.policy.state_dict() for agent in agents]
    assert all(np.array_equal(value, weights[1][name]) for name, value in weights[0].items())
    assert _episodes(folders[0]) == _episodes(folders[1])


def _episodes(folder: str) -> list[list[str]]:
    lines = Path(folder, RUN, "0.monitor.csv").read_text().splitlines()[1:]
    return [line.split(",")[:2] for line in lines]  # the third column is the clock


def test_a_run_that_was_killed_before_its_first_snapshot_begins_again(tmp_path: Path) -> None:
    _killed(tmp_path / "cut", 1)
    Path("cut", SETTINGS, "snapshot.pkl").unlink()
    done("train", "--resume", f"cut/{RUN}")
    assert DQN.load(f"cut/{RUN}/equirl-GridWorld-v0.zip").num_timesteps == 480
    assert not Path("cut", f"{RUN[:-1]}2").exists()  # in the same folder


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    assert "all runs in logs have ended; -f DIR looks elsewhere" in here("train", "--resume").err[-1]
    assert "there is no such folder" in here("train", "--resume", "elsewhere").err[-1]
    (tmp_path / "ended").mkdir()
    assert "this run has ended" in here("train", "--resume", "ended").err[-1]
    outcome = here("train", "--resume", "ended", "--seed", "1")
    assert outcome.status == 2
    assert "leave out --seed 1" in outcome.err[-1]
    assert "'soon' is no number of seconds" in here("train", "--snapshot-every", "soon").err[-1]
    settings = tmp_path / "logs" / SETTINGS
    settings.mkdir(parents=True)
    (settings / "started.json").write_text("[]")
    assert re.search(r"started.json cannot be read .* was it changed\?", here("train", "--resume").err[-1])
    (settings / "started.json").write_text(json.dumps({"arguments": [*TRAIN[1:]], "snapshot_every": 1.0}))
    (settings / "snapshot.pkl").write_bytes(b"cut")
    assert "snapshot.pkl cannot be read" in here("train", "--resume").err[-1]


def test_the_latest_run_that_has_not_ended_goes_on(tmp_path: Path) -> None:
    for number in (1, 2):
        folder = tmp_path / f"logs/dqn/World_{number}/World"
        folder.mkdir(parents=True)
        (folder / "started.json").touch()
    assert unfinished_run("", tmp_path / "logs") == tmp_path / "logs/dqn/World_2"
