"""What ``check_symmetry`` found: passed checks, checks that could not be done, and violations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["SymmetryReport", "Violation"]


@dataclass(frozen=True)
class Violation:
    """The first place where a check failed.

    Attributes:
        check: ``"spaces"``, ``"dynamics"``, ``"start distribution"`` or ``"episodes"``.
        element: Name of the group element.
        detail: What differs, with both values.
        observation: The state, as observed, where one state shows it.
        action: The action taken there, as the environment takes it.
        cause: What causes the difference, if it is known: a parameter of a MuJoCo model, or an entry of the table.
    """

    check: str
    element: str
    detail: str
    observation: Any = None
    action: Any = None
    cause: str = ""

    def __str__(self) -> str:
        where = ""
        if self.observation is not None:
            where = f"\n  action {self.action}, in the state\n    {_shown(self.observation)}"
        cause = f"\n  cause: {self.cause}" if self.cause else ""
        return f"{self.check}, element {self.element}: {self.detail}{cause}{where}"


@dataclass(frozen=True)
class SymmetryReport:
    """What ``check_symmetry`` found.

    Attributes:
        symmetry: Name of the symmetry.
        passed: One line for each check that passed, with how it was done.
        skipped: One line for each check that could not be done, with the reason.
        violations: The first violation of each check that failed.
        left_out: One line for each check that the caller did not want.
    """

    symmetry: str
    passed: tuple[str, ...]
    skipped: tuple[str, ...]
    violations: tuple[Violation, ...]
    left_out: tuple[str, ...] = ()

    @property
    def verdict(self) -> Literal["holds", "violated", "not checked"]:
        """``"violated"`` where a check failed, ``"not checked"`` where one could not be done, else ``"holds"``."""
        if self.violations:
            return "violated"
        return "not checked" if self.skipped else "holds"

    @property
    def ok(self) -> bool:
        """Whether the verdict is ``"holds"``: every check that was wanted was done, and none failed."""
        return self.verdict == "holds"

    def __str__(self) -> str:
        lines = [f"passed   {line}" for line in self.passed]
        lines += [f"left out {line}" for line in self.left_out]
        lines += [f"skipped  {line}" for line in self.skipped]
        lines += [f"VIOLATED {violation}" for violation in self.violations]
        verdict = {
            "holds": "holds as far as checked",
            "violated": "does not hold",
            "not checked": "is not checked: see what was skipped",
        }[self.verdict]
        if self.left_out and self.verdict == "holds":
            verdict += ", and something was left out"
        return "\n".join([*lines, f"symmetry {self.symmetry!r} {verdict}"])


def _shown(observation: Any) -> str:
    if isinstance(observation, Mapping):
        return "\n    ".join(f"{key}: {_shown(value)}" for key, value in observation.items())
    array = np.asarray(observation)
    return np.array2string(array, threshold=400, precision=4, separator=",").replace("\n", "\n    ")
