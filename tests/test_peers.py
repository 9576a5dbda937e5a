"""The script that runs the peers' suites, on a suite of four tests made here."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from warm_process import run_python

PEERS = Path(__file__).parent / "peers"
sys.path.insert(0, str(PEERS))

from judging import Outcome, Refusal, concerned, judge, read_refusals  # noqa: E402
from run_peers import NOTHING_RAN, main  # noqa: E402

SUITE = """
import gymnasium as gym
import pytest
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN

def test_taken():
    model = DQN("MlpPolicy", "CartPole-v1")
    assert type(model.policy).__name__ == "DQNMlpPolicy"

def test_refused():
    RecurrentPPO("MlpLstmPolicy", "Pendulum-v1", use_sde=True)

def test_stock_fails_too():
    DQN("MlpPolicy", "CartPole-v1").speed

def test_without_us():
    assert True
"""
REFUSAL = '[[refusal]]\nsuite = "sb3"\nreason = "No gSDE."\nerror = "use_sde"\ntests = ["{}"]\n'


def test_outcomes_are_compared_with_expectations() -> None:
    stock = {name: Outcome("passed", 1, "") for name in "abcde"}
    stock |= {"f": Outcome("failed", 1, ""), "g": Outcome("passed", 0, "")}
    tests = concerned(stock)
    assert tests == list("abcde")
    refusals = [Refusal("sb3", "why", "Discrete", ("b", "c", "d", "z"))]
    outcomes = {
        "a": Outcome("passed", 1, ""),
        "b": Outcome("failed", 1, "TypeError: not Discrete"),
        "c": Outcome("failed", 1, "KeyError: 3"),
        "d": Outcome("passed", 1, ""),
    }
    verdict = judge(tests, outcomes, refusals)
    found = (verdict.passed, verdict.refused, verdict.other_error, verdict.not_refused, verdict.failed, verdict.unknown)
    assert found == (["a"], ["b"], ["c"], ["d"], ["e"], ["z"])
    assert not verdict.right
    assert judge("ab", outcomes, refusals).right
    by_rounding = Refusal("sb3", "by rounding", "Discrete", ("b", "c", "d"), sometimes=True)
    assert judge("bd", outcomes, [by_rounding]).right
    assert judge("c", outcomes, [by_rounding]).other_error == ["c"]


def test_every_expected_refusal_has_its_reason(tmp_path: Path) -> None:
    refusals = read_refusals(PEERS / "expected_refusals.toml")
    ids = [(each.suite, test, each.methods, each.groups) for each in refusals for test in each.tests]
    assert len(set(ids)) == len(ids)
    (tmp_path / "list.toml").write_text(REFUSAL.format("a").replace("No gSDE.", ""))
    with pytest.raises(ValueError, match="refusal 1 has no reason"):
        read_refusals(tmp_path / "list.toml")
    (tmp_path / "list.toml").write_text(REFUSAL.format("a").replace('"use_sde"', '"("'))
    with pytest.raises(ValueError, match="is no expression"):
        read_refusals(tmp_path / "list.toml")


def test_an_ordinary_run_of_pytest_collects_nothing_of_it() -> None:
    settings = tomllib.loads((PEERS.parents[1] / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "python_files" not in settings
    assert not list(PEERS.glob("test_*.py")) + list(PEERS.glob("*_test.py"))


def _run_warm(command: list[str], **settings: Any) -> Any:
    """Stand in for ``subprocess.run``: fork the process instead of starting it."""
    assert command[:3] == [sys.executable, "-P", "-m"]
    # -P: the working folder is not on the path; with it the program is the same.
    done = run_python(*command[2:], cwd=settings["cwd"], environment=settings["env"])
    settings["stdout"].write(done.stdout + done.stderr)
    return done


def test_the_script_runs_a_suite_and_compares_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "run", _run_warm)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_own.py").write_text(SUITE)
    expected = tmp_path / "expected.toml"
    command = ["--sb3", str(tmp_path), "--suites", "sb3", "--methods", "equitune", "--expected", str(expected)]
    command += ["--records", str(tmp_path / "records")]

    expected.write_text(REFUSAL.format("tests/test_own.py::test_refused"))
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "sb3: 2 tests use the part that is replaced and pass with the peer's own" in printed
    assert "sb3, equitune, trivial: 1 pass, 1 are refused as expected, 0 are not as expected" in printed

    expected.write_text(REFUSAL.format("tests/test_own.py::test_taken"))  # the records are there, nothing runs again
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "passes, though a refusal is expected: tests/test_own.py::test_taken" in printed
    assert "fails: tests/test_own.py::test_refused\n    ValueError" in printed


def test_a_suite_that_is_not_there_is_skipped_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SB3", "CONTRIB", "ZOO", "GYMNASIUM"):
        monkeypatch.delenv(f"EQUIRL_PEERS_{name}", raising=False)
    assert main(["--zoo", str(tmp_path)]) == NOTHING_RAN
    printed = capsys.readouterr().out
    assert "sb3: skipped, no folder given; name a checkout with --sb3" in printed
    assert f"zoo: skipped, {tmp_path} has no folder tests" in printed
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python tests/peers/run_peers.py --sb3 /tmp/sb3" in capsys.readouterr().out
