"""``equirl envs``: the environments that are registered, those with a declared symmetry first."""

from __future__ import annotations

import argparse
import fnmatch
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces

from equirl.agents.cli.arguments import CommandParser, add_packages
from equirl.agents.cli.hyperparameters import hyperparameter_file
from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, import_packages
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.spaces import resolve_symmetry
from equirl.envs import DECLARED_SYMMETRIES, make_environment
from equirl.envs.catalog import MUJOCO_MIRRORS, DeclaredSymmetry
from equirl.envs.mujoco_symmetry import MIRROR
from equirl.symmetry import comes_with_equirl, registered_symmetries

__all__ = ["main"]

_DESCRIPTION = """\
Lists all environments that are registered. First come those with a declared symmetry: its name, its group and the
group's order. MiniGrid's are seen through a view that the symmetry decides. Where starts are not symmetric, dynamics
and rewards still are. Then come all others, with the module that they are from; give these a symmetry of your own
(`equirl discover` looks for one; --symmetry mirror is that of a MuJoCo robot).
"""

_EXAMPLES = """\
examples:
  equirl envs cartpole                  those with "cartpole" in their name; also 'MiniGrid-*-v0', minigrid-d4
  equirl envs own_module:               those that own_module.py registers, and its symmetries
  equirl train --env equirl/GridWorld-v0 --symmetry grid-c4
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl envs`` and return its exit status.

    Raises:
        ValueError: A module that cannot be imported, or a pattern that fits no environment.
    """
    parser = CommandParser(
        prog="equirl envs",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "pattern", nargs="?", default="", metavar="PATTERN", help="part of an id, of a symmetry or of a module's name"
    )
    add_packages(parser)
    options = parser.parse_args(arguments)
    module, colon, pattern = options.pattern.rpartition(":")
    import_packages(options.gym_packages)
    if colon:
        import_packages([module], f"{options.pattern!r}: ")
    fits = _fitting(pattern)
    declared = [d for d in DECLARED_SYMMETRIES if fits(d.environment_id) or fits(d.symmetry)]
    known = {d.environment_id for d in DECLARED_SYMMETRIES}
    others = [(name, _module_of(name)) for name in gym.registry if name not in known]
    others = [row for row in others if fits(row[0]) or fits(row[1])]
    if colon:  # those of the module alone
        declared, others = [], [row for row in others if f"{row[1]}.".startswith(f"{module}.")]
    others.sort(key=lambda row: row[1].partition(".")[0] in ("gymnasium", "minigrid"))  # the user's own first
    own = [name for name in registered_symmetries() if not comes_with_equirl(name)]
    if not declared and not others and not (colon and own):
        raise ValueError(
            f"no environment has {options.pattern!r} in its name, its symmetry or its module; `equirl envs` lists all, "
            "and those of a module of your own with MODULE: or --gym-packages MODULE"
        )
    if declared:
        _print_table([_HEADS, *map(_row, declared)])
    if others:
        title = "others" if declared else "environments"
        _print_table([(f"{title}, without a declared symmetry", "module"), *others], above=bool(declared))
    robots = [name for name in MUJOCO_MIRRORS if fits(name)]
    if robots and not colon:
        print(f"\nMuJoCo robots with --symmetry {MIRROR} (equirl[mujoco]): {', '.join(robots)}")
    if own:
        print(f"\nsymmetries of your modules: {', '.join(own)}")
    print("\nalgorithms (--algo), by the kind of their actions:")
    for kind in (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary, spaces.Box):
        names = [name for name, policy in POLICY_CLASSES.items() if kind in policy.takes]
        print(f"  {kind.__name__:13} {', '.join(names)}")
    print(f"\nhyperparameters (rl_zoo3's -conf): {hyperparameter_file('dqn', DEFAULT_ENVIRONMENT)}")
    return 0


_HEADS = ("environment", "symmetry", "group", "order", "observation", "actions", "symmetric starts")


def _row(declared: DeclaredSymmetry) -> tuple[str, ...]:
    environment = make_environment(declared.environment_id, declared.symmetry, view_kwargs=declared.view_kwargs)
    symmetry = resolve_symmetry(declared.symmetry, environment.observation_space, environment.action_space)
    environment.close()
    shape = str(list(environment.observation_space.shape or ()))
    group = (symmetry.group.name, str(symmetry.group.order))
    starts = "yes" if declared.symmetric_starts else "no"
    actions = f"{symmetry.n_actions} {type(environment.action_space).__name__}"
    return declared.environment_id, declared.symmetry, *group, shape, actions, starts


def _fitting(pattern: str) -> Callable[[str], bool]:
    """Return whether a name fits a pattern: has it as a part, or matches it where it has a ``*`` or ``?``."""
    lower = pattern.lower()
    whole = any(mark in pattern for mark in "*?[")
    return lambda name: fnmatch.fnmatchcase(name.lower(), lower) if whole else lower in name.lower()


def _module_of(environment: str) -> str:
    entry: Any = gym.spec(environment).entry_point
    return entry.partition(":")[0] if isinstance(entry, str) else str(getattr(entry, "__module__", ""))


def _print_table(rows: Sequence[Sequence[str]], above: bool = False) -> None:
    if above:
        print()
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
