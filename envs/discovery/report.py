"""What a search for symmetries found, and on what evidence."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from equirl.envs.deviation import Deviation
from equirl.envs.recurring import Outcomes
from equirl.generated_tables import Step
from equirl.symmetry import MDPSymmetry

__all__ = ["DiscoveryReport", "Element", "Findings", "Outcome"]

Outcome = Literal["exact", "nearly", "none found", "not enough data"]

_SHOWN = 16  # coordinates


@dataclass(frozen=True)
class Element:
    """A symmetry as tables: how it moves the coordinates (or values) of an observation, and the actions.

    Attributes:
        name: What it is called in reports.
        observation: ``(g s)[to[i]] = signs[i] s[i]``; of a ``Discrete`` observation value ``v`` becomes ``to[v]``.
        action: ``Discrete``: action ``a`` becomes ``to[a]``. ``Box``: ``(g a)[to[i]] = signs[i] a[i]``.
        error: How far from exact it is on held-out transitions, as a share of the spread of what is predicted; 0 where
            outcomes were compared exactly.
        compared: Number of transitions, or of recurring pairs of state and action, that were compared.
        share: Which share of those that were seen this is.
    """

    name: str
    observation: Step
    action: Step
    error: float
    compared: int
    share: float = 1.0

    def describe(self) -> str:
        """Return where coordinates (or values) and actions go, as lists; long ones as their length."""
        on_states = _signed(self.observation)
        return f"observation {on_states}, actions {_signed(self.action)}"


@dataclass
class Findings:
    """What one kind of search found, before it is closed to a group.

    Attributes:
        elements: What holds as far as compared.
        notes: What was compared, a sentence each.
        unclear: Whether a candidate was neither confirmed nor refuted.
        complete: Whether the elements are all there are, so that a product that is missing is a contradiction.
        outcomes: What was compared, where states recur and outcomes do not vary: any product can be compared on it.
        near: What was refuted, but holds in most of what was compared.
    """

    elements: list[Element] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unclear: bool = False
    complete: bool = False
    outcomes: Outcomes | None = None
    near: list[Element] = field(default_factory=list)


@dataclass(frozen=True)
class DiscoveryReport:
    """What ``discover_symmetry`` found.

    Attributes:
        outcome: ``"exact"``; ``"nearly"``: it holds up to the error that is given; ``"none found"``; or
            ``"not enough data"``: a symmetry may be there, and these steps cannot tell.
        symmetry: The group found, or ``None``.
        generators: The elements that generate it.
        notes: What was compared, left out, and found by the checker, a sentence each.
        steps: Environment steps used.
        deviation: How far from holding the symmetry was seen to be, where states can be set: it does **not** hold.
            ``None`` where no difference was seen.
    """

    outcome: Outcome
    symmetry: MDPSymmetry | None
    generators: tuple[Element, ...]
    notes: tuple[str, ...]
    steps: int
    deviation: Deviation | None = None

    @property
    def found(self) -> bool:
        """Whether there is a symmetry to use."""
        return self.symmetry is not None

    @property
    def error(self) -> float:
        """The largest error of a generator; 0 where all were compared exactly."""
        return max((element.error for element in self.generators), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "outcome": self.outcome,
            "order": self.symmetry.group.order if self.symmetry else 1,
            "error": self.error,
            "generators": [
                {
                    "name": element.name,
                    "observation": element.observation._asdict(),
                    "action": element.action._asdict(),
                    "error": element.error,
                    "compared": element.compared,
                    "share": element.share,
                }
                for element in self.generators
            ],
            "notes": list(self.notes),
            "steps": self.steps,
            "deviation": None if self.deviation is None else asdict(self.deviation),
        }

    def __str__(self) -> str:
        lines, order = [f"{self.outcome}, after {self.steps:,} steps"], 1
        if self.symmetry is not None:
            order = self.symmetry.group.order
            error = f", up to {self.error:.2g} of the spread" if self.outcome == "nearly" else ""
            lines = [f"found, {self.outcome}{error}: a group of order {order}, after {self.steps:,} steps"]
        if self.deviation is not None:
            lines[0] = f"nearly: a group of order {order} that does not hold, after {self.steps:,} steps"
            lines += [f"  {self.deviation}"]
        for element in self.generators:
            lines += [f"  {element.name}: {element.describe()}"]
            lines += [f"     error {element.error:.2g}, {element.compared:,} compared ({element.share:.0%})"]
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def _signed(step: Step) -> str:
    if len(step.to) > _SHOWN:
        moved = sum(i != j for i, j in enumerate(step.to))
        return f"of {len(step.to)} entries moves {moved}"
    if step.signs is None or min(step.signs) > 0:
        return str(list(step.to))
    return "[" + ", ".join(f"{'-' if s < 0 else '+'}{i}" for i, s in zip(step.to, step.signs, strict=True)) + "]"
