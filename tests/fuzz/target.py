"""What is fuzzed: a call with valid arguments, how each is malformed, and what a result has to be to have a meaning."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import torch

from fuzz.nonsense import Argument
from fuzz.oracle import Expect, Finding, Nonsense, complaint_of_error, shown

__all__ = ["Sane", "Target", "Trial", "target", "try_call"]

Sane = Callable[[Any, dict[str, Any]], str | None]
"""What is wrong with a result, given the arguments; ``None`` where it has a meaning."""


@dataclass(frozen=True)
class Target:
    """A call, and how it is fuzzed.

    Attributes:
        name: What it is called in reports.
        call: The function.
        valid: Makes valid arguments, new ones every time.
        arguments: Which of them are malformed, and how.
        sane: Checks a result that may have a meaning; by default every result has one.
    """

    name: str
    call: Callable[..., Any]
    valid: Callable[[], dict[str, Any]]
    arguments: Mapping[str, Argument]
    sane: Sane = field(default=lambda result, given: None)


def target(
    label: str,
    call: Callable[..., Any],
    valid: dict[str, Any],
    arguments: Mapping[str, Argument],
    sane: Sane = lambda result, given: None,
) -> Target:
    """Return a target whose valid arguments are the same objects every time."""
    return Target(label, call, lambda: dict(valid), arguments, sane)


@dataclass(frozen=True)
class Trial:
    """What became of one input.

    Attributes:
        target: The target's name.
        what: The malformed argument, option or file.
        label: What was wrong with it.
        outcome: ``"refused"``, ``"accepted"``, ``"finding"``, or ``"hang"``.
        finding: The finding, if it is one.
    """

    target: str
    what: str
    label: str
    outcome: str
    finding: Finding | None = None


def try_call(called: Target, random: Random) -> Trial:
    """Call a target with one malformed argument, and judge what comes of it."""
    argument = random.choice(list(called.arguments))
    spec = called.arguments[argument]
    nonsense = spec.draw(random)
    given = called.valid() | {argument: nonsense.value}
    before = _copied(nonsense.value)
    complaint: str | None
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = called.call(**given)
            complaint = _complaint_of_result(called, result, given, nonsense)
        outcome = "accepted"
    except Exception as error:  # whatever is raised is what is judged
        complaint = complaint_of_error(error, nonsense, argument, spec.words)
        outcome = "refused"
    if complaint is None and not _same(before, nonsense.value):
        complaint = f"the argument was changed: it was {shown(before)}"
    if complaint is None:
        return Trial(called.name, argument, nonsense.label, outcome)
    finding = Finding(called.name, argument, nonsense.label, shown(nonsense.value), complaint)
    return Trial(called.name, argument, nonsense.label, "finding", finding)


def _complaint_of_result(called: Target, result: Any, given: dict[str, Any], nonsense: Nonsense) -> str | None:
    if nonsense.expect is not Expect.EITHER:
        return f"accepted without a word; the result is {shown(result)}"
    return called.sane(result, given)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return copy.deepcopy(value) if isinstance(value, (np.ndarray, list, dict)) else value


def _same(before: Any, after: Any) -> bool:
    if isinstance(after, torch.Tensor):
        return bool(after.is_sparse) or torch.equal(before.nan_to_num(), after.detach().nan_to_num())
    if isinstance(after, np.ndarray):
        return bool(before.shape == after.shape and before.tobytes() == after.tobytes())
    return shown(before) == shown(after)
