"""``equirl envs``: the environments, their symmetries and groups."""

from __future__ import annotations

from collections.abc import Sequence

from equirl.agents.cli.arguments import CommandParser
from equirl.agents.cli.hyperparameters import hyperparameter_file
from equirl.agents.spaces import resolve_symmetry
from equirl.envs import DECLARED_SYMMETRIES, make_environment

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl envs`` and return its exit status."""
    parser = CommandParser(
        prog="equirl envs",
        description="List the environments with a declared symmetry: its name, its group and the group's order. "
        "MiniGrid's are seen through a view that the symmetry decides. Where starts are not symmetric, dynamics and "
        "rewards still are.",
        epilog="example: equirl train --env equirl/GridWorld-v0 --symmetry grid-c4",
    )
    parser.parse_args(arguments)
    rows = [("environment", "symmetry", "group", "order", "observation", "actions", "symmetric starts")]
    for declared in DECLARED_SYMMETRIES:
        environment = make_environment(declared.environment_id, declared.symmetry, view_kwargs=declared.view_kwargs)
        symmetry = resolve_symmetry(declared.symmetry, environment.observation_space, environment.action_space)
        shape = str(list(environment.observation_space.shape or ()))
        group = (symmetry.group.name, str(symmetry.group.order))
        starts = "yes" if declared.symmetric_starts else "no"
        rows.append((declared.environment_id, declared.symmetry, *group, shape, str(symmetry.n_actions), starts))
        environment.close()
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(f"\nhyperparameters (rl_zoo3's -conf): {hyperparameter_file('dqn', rows[1][0])}")
    return 0
