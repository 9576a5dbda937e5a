"""Run the test suites of Stable-Baselines3, sb3-contrib, rl_zoo3 and Gymnasium with equirl's parts in their place.

The suites are not part of this repository. Clone them, check out the tag nearest to the installed version (`pip list`),
and say where they are. Each suite runs first with the peer's own parts: the tests that use them and pass are the
ones that concern equirl. These run again with each method and group, and what fails is compared with
expected_refusals.toml. The suites write into their own folders. Nothing here is collected by an ordinary `pytest`.
"""

# ruff: noqa: T201  # a command-line program prints

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from judging import Outcome, Verdict, concerned, judge, read_outcomes, read_refusals  # noqa: E402

METHODS = ("equitune", "lambda_equitune", "equizero", "canonical")
GROUPS = ("trivial", "z2")
NOTHING_RAN = 77

EPILOG = """\
examples:
  git clone --branch v2.8.0 https://github.com/DLR-RM/stable-baselines3 /tmp/sb3
  python tests/peers/run_peers.py --sb3 /tmp/sb3
  python tests/peers/run_peers.py --sb3 /tmp/sb3 --contrib /tmp/contrib --groups trivial z2 --workers 2
  python tests/peers/run_peers.py --gymnasium /tmp/Gymnasium
  python tests/peers/run_peers.py --zoo /tmp/zoo --methods canonical --records /tmp/records

exit status: 0 all as expected; 1 an unexpected failure, or an expected refusal that passes; 2 a wrong argument;
77 nothing ran, because no suite was there.
"""


@dataclass(frozen=True)
class Suite:
    """A peer's tests.

    Args:
        name: Name in expected_refusals.toml and in the report.
        option: The option that names its folder.
        plugin: The module beside this one that puts equirl's part in place.
        paths: What to run, relative to the folder.
        select: An expression for pytest's ``-k``: what cannot concern equirl is not even tried.
        methods: Methods to run with; empty means those asked for, each with each group.
    """

    name: str
    option: str
    plugin: str
    paths: tuple[str, ...]
    select: str = ""
    methods: tuple[str, ...] = ()


SUITES = (
    Suite("sb3", "sb3", "equirl_behind_sb3", ("tests",)),
    Suite(
        "contrib",
        "contrib",
        "equirl_behind_sb3",
        ("tests",),
        "not ARS",
    ),
    Suite("zoo", "zoo", "equirl_behind_sb3", ("tests",), "not ppo_lstm"),
    Suite("zoo-commands", "zoo", "equirl_behind_rl_zoo3", ("tests",), "not ppo_lstm", ("equirl",)),
    Suite(
        "gymnasium",
        "gymnasium",
        "gridworld_behind_cartpole",
        ("tests/vector", "tests/wrappers", "tests/envs/registration/test_make_vec.py"),
        methods=("gridworld",),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suites that are there and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for option in dict.fromkeys(suite.option for suite in SUITES):
        variable = f"EQUIRL_PEERS_{option.upper()}"
        parser.add_argument(
            f"--{option}", metavar="DIR", default=os.environ.get(variable), help=f"a checkout (default: ${variable})"
        )
    parser.add_argument("--suites", nargs="+", choices=[suite.name for suite in SUITES], help="only these")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--groups", nargs="+", choices=GROUPS, default=["trivial"], help="default: trivial, |G| = 1")
    parser.add_argument(
        "--records", metavar="DIR", type=Path, help="keep outcomes there, and do not run again what is there already"
    )
    parser.add_argument(
        "--select", metavar="EXPRESSION", default="", help="only tests that pytest's -k EXPRESSION keeps"
    )
    parser.add_argument("--expected", metavar="FILE", type=Path, default=HERE / "expected_refusals.toml")
    parser.add_argument("--workers", type=int, default=0, help="processes of pytest-xdist (default: none)")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds for each run of a suite (default: 7200)")
    options = parser.parse_args(arguments)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if options.workers < 0 or not options.timeout > 0:
        parser.error("--workers must be a whole number from 0 and --timeout positive")
    try:
        refusals = read_refusals(options.expected)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory() as scratch:
        records = options.records or Path(scratch)
        records.mkdir(parents=True, exist_ok=True)
        verdicts = []
        for suite in SUITES:
            folder = getattr(options, suite.option)
            if options.suites and suite.name not in options.suites:
                continue
            if folder is None or not (Path(folder) / suite.paths[0]).is_dir():
                found = "no folder given" if folder is None else f"{folder} has no folder {suite.paths[0]}"
                print(f"{suite.name}: skipped, {found}; name a checkout with --{suite.option}")
                continue
            select = " and ".join(f"({each})" for each in (suite.select, options.select) if each)
            runner = Runner(suite, Path(folder).resolve(), records.resolve(), select, options.workers, options.timeout)
            tests = concerned(runner.outcomes("stock", "trivial", None))
            print(f"{suite.name}: {len(tests)} tests use the part that is replaced and pass with the peer's own")
            runs = [(method, group) for method in suite.methods or options.methods for group in options.groups]
            for method, group in [(method, "trivial") for method in suite.methods] or runs:
                outcomes = runner.outcomes(method, group, tests)
                verdict = judge(
                    tests, outcomes, [each for each in refusals if each.concerns(suite.name, method, group)]
                )
                verdicts.append(verdict)
                _report(f"{suite.name}, {method}, {group}", verdict, outcomes)
    if not verdicts:
        return NOTHING_RAN
    return 0 if all(verdict.right for verdict in verdicts) else 1


@dataclass(frozen=True)
class Runner:
    """Runs a suite in a process of its own and reads what it recorded."""

    suite: Suite
    folder: Path
    records: Path
    select: str
    workers: int
    timeout: float

    def outcomes(self, method: str, group: str, tests: list[str] | None) -> dict[str, Outcome]:
        """Return how the tests end with a method and a group; ``None`` runs all."""
        name = f"{self.suite.name}_{method}_{group}"
        record = self.records / f"{name}.jsonl"
        if not record.exists():
            partial = record.with_suffix(".partial")
            partial.touch()  # a run that was broken off goes on
            self._run(partial, name, {"PEERS_METHOD": method, "PEERS_GROUP": group}, tests)
            partial.rename(record)
        return read_outcomes(record)

    def _run(self, record: Path, name: str, settings: dict[str, str], tests: list[str] | None) -> None:
        environment = {**os.environ, **settings, "PEERS_RECORD": str(record)}
        paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        environment.setdefault("OMP_NUM_THREADS", "1")
        environment.setdefault("SDL_VIDEODRIVER", "dummy")
        environment.setdefault("MPLBACKEND", "Agg")
        if tests is not None:
            only = self.records / f"{name}.tests"
            only.write_text("\n".join(tests), encoding="utf-8")
            environment["PEERS_ONLY"] = str(only)
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "recording", "-p", self.suite.plugin]
        command += ["-p", "no:cacheprovider", "--rootdir", str(self.folder), "--continue-on-collection-errors"]
        command += ["-k", self.select] if self.select else []
        command += ["-n", str(self.workers)] if self.workers else []
        with (self.records / f"{name}.log").open("w", encoding="utf-8") as log:
            try:
                status = subprocess.run(
                    [*command, *self.suite.paths],
                    cwd=self.folder,
                    env=environment,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=self.timeout,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                print(f"{name}: stopped after {self.timeout:g} s; the tests that did not end count as failed")
                return
        if status not in (0, 1, 5):  # pytest's own: all passed, some failed, none left to run
            lines = Path(log.name).read_text(encoding="utf-8").splitlines()[-15:]
            raise SystemExit("\n".join([f"{name}: pytest ended with status {status}; its last lines:", *lines]))


def _report(title: str, verdict: Verdict, outcomes: dict[str, Outcome]) -> None:
    wrong = len(verdict.failed) + len(verdict.not_refused) + len(verdict.other_error)
    print(
        f"{title}: {len(verdict.passed)} pass, {len(verdict.refused)} are refused as expected, {wrong} are not as "
        f"expected; {len(verdict.unknown)} expected refusals are not among the tests"
    )
    for test in verdict.not_refused:
        print(f"  passes, though a refusal is expected: {test}")
    for heading, tests in (("fails", verdict.failed), ("fails with another error", verdict.other_error)):
        for test in tests:
            error = outcomes[test].error if test in outcomes else "did not run to its end"
            print(f"  {heading}: {test}\n    {error.splitlines()[0] if error else ''}")


if __name__ == "__main__":
    raise SystemExit(main())
