"""``equirl discover``: find the symmetry of an environment from transitions."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym

from equirl.agents.cli.agent_files import load_acting
from equirl.agents.cli.arguments import (
    CommandParser,
    StoreSettings,
    add_environment_settings,
    add_packages,
    existing_agent,
    new_file,
    whole,
)
from equirl.agents.cli.zoo import folder_name, named_environment
from equirl.envs.catalog import declared_view_settings
from equirl.envs.discovery import DiscoveryReport, discover_symmetry
from equirl.envs.making import make_environment, view_table
from equirl.envs.mujoco_symmetry import MIRROR, mujoco_mirror
from equirl.symmetry_files import save_symmetry

__all__ = ["discovered_file", "find_into", "main"]

_STEPS = 20_000
_DIFFERS = 4  # exit status
_VIEW = "minigrid-d4"  # of MiniGrid's worlds: the whole grid

_EXAMPLES = """\
Takes random actions (with --agent: half of them the agent's), sets no state to search, and prints the group, its
generators and the evidence. Where states can be set, `equirl check` has the last word. The first line says what came of
it: exact; nearly, with the error; none found; or not enough data. Exit status: 0 a symmetry was found, 2 a mistake in
the command, 3 none found or not enough data, 4 a symmetry that does not hold, but nearly: -o writes it and says so.

examples:
  equirl discover CartPole-v1
  equirl discover equirl/GridWorld-v0 -o grid.toml && equirl train --symmetry grid.toml
  equirl discover own_module:OwnWorld-v0 --steps 50000 --json
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl discover`` and return its exit status.

    Returns:
        0: found, no difference seen; 3: none found or not enough data; 4: nearly, with differences that were seen.
    """
    parser = CommandParser(
        prog="equirl discover", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("env", metavar="ENV", help="environment id, or MODULE:ID for one of your own")
    parser.add_argument("-o", "--output", type=new_file, metavar="FILE.toml", help="write the symmetry to a file")
    parser.add_argument("--steps", type=whole(1), default=_STEPS, metavar="N", help=f"environment steps ({_STEPS})")
    parser.add_argument("--agent", type=existing_agent, metavar="AGENT.zip", help="takes half of the actions")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_packages(parser)
    add_environment_settings(parser)
    options = parser.parse_args(arguments)
    if options.output is not None and options.output.suffix != ".toml":
        parser.error(f"argument -o/--output: a symmetry file ends in .toml; got {str(options.output)!r}")
    world = named_environment(options.env, options.gym_packages)
    found = _discovered(world, options.env_kwargs, options.view_kwargs, options.steps, options.seed, options.agent)
    print(json.dumps(found.report.to_dict()) if options.json else found.report)
    if found.report.symmetry is None:
        return 3
    if options.output is not None:
        _save(found, options.output, options.env, options.seed)
    return 0 if found.report.deviation is None else _DIFFERS


def discovered_file(given: str, arguments: Sequence[str]) -> str:
    """Find the symmetry of the world that arguments of ``equirl train`` name, and return the file that holds it.

    Args:
        given: ``"auto"``, or ``"mirror"`` for that of a MuJoCo robot.
        arguments: The arguments.

    Returns:
        The file, in the folder of the runs, under ``symmetries``.

    Raises:
        ValueError: None was found, or the world cannot be made.
    """
    parser = CommandParser(prog="equirl train", add_help=False, allow_abbrev=False)
    parser.add_argument("--env", default="equirl/GridWorld-v0")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreSettings)
    parser.add_argument("--gym-packages", nargs="+", default=[])
    parser.add_argument("-f", "--log-folder", type=Path, default=Path("logs"))
    options, _ = parser.parse_known_args(list(arguments))
    path = options.log_folder / "symmetries" / f"{folder_name(options.env.rpartition(':')[2])}.toml"
    find_into(path, given, options.env, options.gym_packages, options.env_kwargs)
    return str(path)


def find_into(
    path: Path,
    given: str,
    environment: str,
    packages: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    view: Mapping[str, Any] | None = None,
    evidence: Mapping[str, str] | None = None,
) -> None:
    """Find the symmetry of a world, say what was found, and write the symmetry file.

    Args:
        path: The file, ``FILE.toml``; folders above it are made.
        given: ``"auto"``, or ``"mirror"`` for that of a MuJoCo robot, which is derived from its model.
        environment: An id, or ``MODULE:ID``.
        packages: Modules to import first.
        settings: Settings of the environment.
        view: Settings of MiniGrid's view.
        evidence: Further entries of the file's evidence.

    Raises:
        ValueError: None was found, or the world cannot be made.
    """
    world = named_environment(environment, packages)
    if given == MIRROR:
        _mirror_into(path, world, settings, {"environment": environment, **(evidence or {})})
        return
    found = _discovered(world, settings, view, _STEPS, 0, None)
    print(found.report)
    if found.report.symmetry is None:
        raise ValueError(
            f"--symmetry auto: {found.report.outcome} in {environment} (see above); train it with --method plain, or "
            "name a symmetry"
        )
    if found.report.deviation is not None:
        raise ValueError(
            f"--symmetry auto: the symmetry of {environment} does not hold, but nearly (see above). To train with it "
            f"all the same: `equirl discover {environment} -o FILE.toml`, and --symmetry FILE.toml"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(found, path, environment, 0, evidence)


def _mirror_into(path: Path, world: str, settings: Mapping[str, Any] | None, evidence: Mapping[str, str]) -> None:
    environment = make_environment(world, MIRROR, **(settings or {}))
    try:
        mirror = mujoco_mirror(environment)
    except TypeError as error:
        raise ValueError(f"--symmetry {MIRROR}: {error}") from error
    finally:
        environment.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_symmetry(mirror, path, evidence={**evidence, "outcome": "derived from the model, not checked"})
    print(f"Mirror of {world}, derived from its model (`equirl check` says whether it holds): written to {path}")


class _Found(NamedTuple):
    """What a search found, and the view that it looked through."""

    report: DiscoveryReport
    view: dict[str, Any] | None


def _discovered(
    world: str,
    settings: Mapping[str, Any] | None,
    view: Mapping[str, Any] | None,
    steps: int,
    seed: int,
    agent: Path | None,
) -> _Found:
    if view is None:
        view = declared_view_settings(world, _VIEW)
    environment: gym.Env[Any, Any] = make_environment(world, _VIEW, view_kwargs=view, **(settings or {}))
    try:
        acting = None if agent is None else load_acting(agent)
        report = discover_symmetry(environment, steps=steps, seed=seed, agent=acting)
        return _Found(report, view_table(environment))
    except TypeError as error:
        raise ValueError(f"{world}: {error}") from error
    finally:
        environment.close()


def _save(found: _Found, path: Path, environment: str, seed: int, further: Mapping[str, str] | None = None) -> None:
    report = found.report
    if report.symmetry is None:
        return
    evidence: dict[str, str | int | float | bool] = {
        "environment": environment,
        "outcome": report.outcome,
        "error": report.error,
        "steps": report.steps,
        "seed": seed,
        **({} if report.deviation is None else {"does not hold": str(report.deviation)}),
        "notes": "; ".join(report.notes),
        **(further or {}),
    }
    save_symmetry(report.symmetry, path, evidence=evidence, view=found.view)
    print(f"Written to {path}")
