"""Outcomes of a peer's tests beside the list of expected refusals."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Outcome", "Refusal", "Verdict", "concerned", "judge", "read_outcomes", "read_refusals"]

_SEVERITY = ("passed", "skipped", "failed")


@dataclass(frozen=True)
class Outcome:
    """How one test ended.

    Args:
        outcome: ``"passed"``, ``"skipped"`` or ``"failed"``, the worst of setup, call and teardown.
        uses: How often the replaced part was made.
        error: The error and what was printed, empty for a test that passed.
    """

    outcome: str
    uses: int
    error: str


@dataclass(frozen=True)
class Refusal:
    """Tests that fail because equirl refuses, on purpose, what they do.

    Args:
        suite: Name of the suite.
        reason: Why this is right, for people.
        error: A regular expression that the error must match, so that another fault is not taken for the refusal.
        tests: Ids of the tests.
        methods: Methods that refuse; all if empty.
        groups: Groups for which they refuse; all if empty.
        sometimes: Whether they pass on some machines, which round otherwise.
    """

    suite: str
    reason: str
    error: str
    tests: tuple[str, ...]
    methods: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    sometimes: bool = False

    def concerns(self, suite: str, method: str, group: str) -> bool:
        """Return whether this run may expect the refusal."""
        return suite == self.suite and method in (self.methods or (method,)) and group in (self.groups or (group,))


@dataclass
class Verdict:
    """Test ids by what came of them; the last three lists must be empty.

    Args:
        passed: Passed, as expected.
        refused: Refused, as expected.
        unknown: Expected refusals of tests that this version of the peer does not have, or that its own part fails.
        failed: Failed, skipped or gone, though no refusal is expected.
        not_refused: Passed, though a refusal is expected.
        other_error: Failed where a refusal is expected, with another error.
    """

    passed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    not_refused: list[str] = field(default_factory=list)
    other_error: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether everything went as expected."""
        return not (self.failed or self.not_refused or self.other_error)


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """Return the outcomes that the plugin ``recording`` wrote, by test id."""
    outcomes: dict[str, Outcome] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        before = outcomes.get(entry["test"], Outcome("passed", 0, ""))
        outcomes[entry["test"]] = Outcome(
            max(before.outcome, entry["outcome"], key=_SEVERITY.index),
            max(before.uses, entry["uses"]),
            f"{before.error}{entry['error']}\n{entry['printed']}".strip(),
        )
    return outcomes


def read_refusals(path: Path) -> list[Refusal]:
    """Return the expected refusals of a TOML file, the entries of its array ``refusal``.

    Raises:
        ValueError: An entry without a reason, an error or tests, or an expression that is none.
    """
    refusals = []
    for number, entry in enumerate(tomllib.loads(path.read_text(encoding="utf-8")).get("refusal", []), start=1):
        lists = {name: tuple(entry.pop(name, ())) for name in ("tests", "methods", "groups")}
        refusal = Refusal(**{"suite": "", "reason": "", "error": "", **entry}, **lists)
        for name in ("suite", "reason", "error", "tests"):
            if not getattr(refusal, name):
                raise ValueError(f"{path}: refusal {number} has no {name}; an expected refusal needs one")
        try:
            re.compile(refusal.error)
        except re.error as error:
            raise ValueError(f"{path}: refusal {number}: {refusal.error!r} is no expression: {error}") from error
        refusals.append(refusal)
    return refusals


def concerned(stock: Mapping[str, Outcome]) -> list[str]:
    """Return the tests that use the replaced part and pass with the peer's own."""
    return [test for test, outcome in stock.items() if outcome.uses > 0 and outcome.outcome == "passed"]


def judge(tests: Iterable[str], outcomes: Mapping[str, Outcome], refusals: Iterable[Refusal]) -> Verdict:
    """Compare outcomes with expectations.

    Args:
        tests: Ids of the tests that were run; all pass with the peer's own part.
        outcomes: How they ended with the replaced part.
        refusals: Those that concern this run.
    """
    refusals = list(refusals)
    expected = {test: refusal.error for refusal in refusals for test in refusal.tests}
    sometimes = {test for refusal in refusals for test in refusal.tests if refusal.sometimes}
    verdict = Verdict(unknown=sorted(set(expected) - set(tests)))
    for test in tests:
        outcome = outcomes.get(test, Outcome("failed", 0, "did not run to its end"))
        if outcome.outcome == "passed":
            (verdict.not_refused if test in expected.keys() - sometimes else verdict.passed).append(test)
        elif test not in expected:
            verdict.failed.append(test)
        elif re.search(expected[test], outcome.error):
            verdict.refused.append(test)
        else:
            verdict.other_error.append(test)
    return verdict
