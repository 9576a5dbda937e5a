"""Which parameter of a MuJoCo model breaks its mirror: found by making it equal on both sides, in a copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from equirl.envs.mujoco_pairs import Mirror
from equirl.envs.mujoco_parameters import Difference, differences, equalized
from equirl.envs.mujoco_pose import MUJOCO
from equirl.optional import needed

__all__ = ["listed", "name_cause"]

_NAMED = 3  # parts that differ


def name_cause(model: Any, mirrors: Sequence[Mirror], agree: Callable[[Any], bool]) -> str:
    """Return why a mirror of a model is broken.

    Args:
        model: MuJoCo's model.
        mirrors: The mirrors that were done, one after the other.
        agree: Says whether the steps that differ agree with another model in the place of this one.
    """
    mirror = next((each for each in mirrors if differences(model, each)), None)
    if mirror is None and mirrors:
        mirror = mirrors[0]
    if mirror is None:
        return ""
    found = differences(model, mirror)
    labels = list(dict.fromkeys(difference.parameter for difference in found))
    solves = False

    def mends(parameters: Sequence[str]) -> bool:
        changed = equalized(model, mirror, parameters)
        return agree(exactly_solved(changed) if solves else changed)

    unsolved = ""
    if not mends(labels):
        solves = True
        if not mends(labels):
            others = "the environment's rules"
            if model.ntendon or model.neq:
                others += " (or the model's tendons and equality constraints, which are not compared)"
            if not found:
                return f"no parameter of the model, which is its own mirror image: {others} break the mirror"
            return f"not the model alone, which differs from its mirror image: {listed(found)}; {others} break it, too"
        solver = needed("mujoco", MUJOCO).mjtSolver(model.opt.solver).name.removeprefix("mjSOL_")
        unsolved = (
            f"the solver, {solver} of {model.opt.iterations} iterations, stops before it has converged, so that the "
            "order of the parts matters"
        )
    alone = [label for label in labels if len(labels) > 1 and mends([label])]
    together = [label for label in labels if not mends([each for each in labels if each != label])]
    causes = [difference for difference in found if difference.parameter in (alone[:1] or together)]
    named = "; ".join(text for text in (listed(causes), unsolved) if text)
    return f"{named}. With this mended in a copy of the model, the steps agree"


def exactly_solved(model: Any) -> Any:
    """Let a model find the forces of contacts and limits exactly, and return it."""
    model.opt.solver = needed("mujoco", MUJOCO).mjtSolver.mjSOL_NEWTON.value
    model.opt.iterations, model.opt.tolerance = 200, 1e-12
    return model


def listed(found: Sequence[Difference]) -> str:
    """Return the largest differences as text, one of each parameter first."""
    largest = sorted(found, key=lambda difference: -difference.size)
    first = list({difference.parameter: difference for difference in reversed(largest)}.values())[::-1]
    ordered = [*first, *(difference for difference in largest if difference not in first)]
    named = "; ".join(difference.text for difference in ordered[:_NAMED])
    return named if len(found) <= _NAMED else f"{named}; and {len(found) - _NAMED} more"
