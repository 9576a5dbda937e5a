"""``equirl enjoy`` and ``equirl record``: rl_zoo3's, with our environments and defaults."""

from __future__ import annotations

import argparse
import os
import runpy
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from equirl.agents.cli.arguments import CommandParser, check_output, device, whole
from equirl.agents.cli.folder_runs import agent_of_folder
from equirl.agents.cli.replaced_agents import legal_actions
from equirl.agents.cli.runs import Run, find_run, run_of
from equirl.agents.cli.zoo import (
    DEFAULT_ENVIRONMENT,
    handed_over,
    import_packages,
    named_environment,
    split_id,
    statistics_of_any_age,
)
from equirl.agents.open_folder import algorithm_and_symmetry, is_agent_folder, read_card
from equirl.envs.making import make_as_registered, render_problem

__all__ = ["main", "record"]

_DEFAULTS = {"algo": "dqn", "env": DEFAULT_ENVIRONMENT, "folder": "logs"}

_TYPES = {
    "n_timesteps": whole(1),
    "n_envs": whole(1),
    "num_threads": whole(1, -1),
    "exp_id": whole(-1),
    "load_checkpoint": whole(0),
    "seed": whole(0, most=2**32 - 1000),
    "verbose": whole(0),
    "device": device,
}

_DOWNLOADED = "rl-trained-agents"
"""The folder into which rl_zoo3 downloads agents; every other one has to be there."""

_ENJOY_HELP = """\
usage: equirl enjoy [options of rl_zoo3.enjoy]

Shows a trained agent in a window and prints its returns and success rate. Where there is no display, it prints them
only. The environment's settings, wrappers and modules are those of the run.

most used (all of them: equirl enjoy --help-all):
  --env ID        default equirl/GridWorld-v0   -f DIR            folder of the runs, default logs
  --exp-id N      which run (0: the latest)     --run DIR         the run's or the agent's own folder
  -n STEPS        default 1000                  --load-best       the best agent instead of the last
  --seed N        random seed                   --no-render       without a window
  --algo NAME     default dqn                   --env-kwargs K:V  settings of the environment
  --gym-packages MODULE ...                     modules that register worlds of your own; or --env MODULE:ID

examples:
  equirl enjoy -n 300
  equirl enjoy --no-render -n 5000 --env-kwargs goal:south-east
"""

_RECORD_HELP = """\
usage: equirl record [options of rl_zoo3.record_video]

Records a video (MP4) of a trained agent; by default into the run's folder, under videos/.

most used (all of them: equirl record --help-all):
  --env ID        default equirl/GridWorld-v0   -f DIR            folder of the runs, default logs
  --exp-id N      which run (0: the latest)     --run DIR         the run's or the agent's own folder
  -n STEPS        default 1000                  --load-best       the best agent instead of the last
  --seed N        random seed                   -o DIR            folder of the video
  --algo NAME     default dqn                   --gym-packages MODULE ...  or --env MODULE:ID

examples:
  equirl record -n 200
  equirl record --load-best -o videos
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl enjoy`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_ENJOY_HELP, end="")
        return 0
    from rl_zoo3.enjoy import enjoy  # slow, so only when it is needed

    # One torch thread: networks this small run slower on two.
    with _for_zoo("equirl enjoy", arguments, {**_DEFAULTS, "num_threads": 1}):
        enjoy()
    return 0


def record(arguments: Sequence[str]) -> int:
    """Run ``equirl record`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_RECORD_HELP, end="")
        return 0
    import rl_zoo3.exp_manager  # noqa: F401  (what the script imports comes before its parser is replaced)

    # The module has no function to call.
    with _for_zoo("equirl record", arguments, _DEFAULTS):
        runpy.run_module("rl_zoo3.record_video", run_name="__main__")
    return 0


@contextmanager
def _for_zoo(program: str, arguments: Sequence[str], defaults: dict[str, Any]) -> Iterator[None]:
    """Let a script of rl_zoo3's, run inside, find the run, its modules and the settings of its environment."""
    import rl_zoo3.enjoy
    import rl_zoo3.utils

    parser = CommandParser(prog=program, add_help=False, allow_abbrev=False)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--help-all", action="store_true")
    # record_video has no such option.
    parser.add_argument("--gym-packages", nargs="+", default=[])
    ours, theirs = parser.parse_known_args(arguments)
    original = rl_zoo3.utils.get_model_path

    def model_path(exp_id: int, folder: str, algo: str, *rest: Any) -> tuple[str, str, str]:
        if is_agent_folder(ours.run or ""):
            return ours.run.name, str(ours.run), str(ours.run)
        if ours.run is not None:  # the folder of an algorithm is a run, where -1 is the run's number
            exp_id, folder, algo = -1, str(ours.run.parent), ours.run.name
        found: tuple[str, str, str] = original(exp_id, folder, algo, *rest)
        return found

    modules: list[Any] = [rl_zoo3.utils, rl_zoo3.enjoy]
    for module in modules:
        module.get_model_path = model_path
    try:
        with (
            handed_over(
                program,
                ["--help"] if ours.help_all else theirs,
                check=lambda parsed: _complete(parsed, ours.run, ours.gym_packages),
                defaults=defaults,
                types=_TYPES,
                other_options=("--run", "--gym-packages", "--help-all"),
            ),
            statistics_of_any_age(),
            legal_actions(*modules),
            agent_of_folder(ours.run, *modules) if is_agent_folder(ours.run or "") else nullcontext(),
        ):
            yield
    finally:
        for module in modules:
            module.get_model_path = original


def _complete(parsed: argparse.Namespace, folder: Path | None, packages: Sequence[str]) -> None:
    """Check the parsed arguments and take over from the run what they leave open, in place.

    Raises:
        ValueError: A mistake in them; the message names it.
    """
    from huggingface_sb3 import EnvironmentName

    name = str(getattr(parsed.env, "gym_id", parsed.env))
    own, environment = split_id(name)
    import_packages(packages)
    if own:
        named_environment(name)
    run: Run | None = None
    if folder is not None and is_agent_folder(folder):
        _like_the_agent(parsed, folder)
        environment = split_id(str(parsed.env))[1]
    elif folder is not None:
        run = run_of(folder / "agent.zip")
        if run is None:
            raise ValueError(f"--run {folder} is not the folder of one run, such as logs/dqn/CartPole-v1_1")
        environment, parsed.algo = run.environment, str(run.arguments["algo"])
    elif _DOWNLOADED not in Path(parsed.folder).parts:
        run = find_run(parsed.folder, parsed.algo, environment, parsed.exp_id)
    if run is not None and folder is None and parsed.exp_id == 0:
        parsed.exp_id = int(run.folder.name.rpartition("_")[2])  # the latest run that has an agent
    if run is not None:
        import_packages(run.packages)
    environment = named_environment(environment)
    if parsed.env_kwargs:
        make_as_registered(environment, **parsed.env_kwargs).close()  # settings that it does not take are named
    if run is not None:
        parsed.env_kwargs = {**run.environment_settings, **(parsed.env_kwargs or {})} or None
    parsed.env = EnvironmentName(environment)
    if getattr(parsed, "output_folder", None):
        check_output(Path(parsed.output_folder), folder=True)
    enjoys = hasattr(parsed, "reward_log")
    problem = render_problem(environment, "human" if enjoys else "rgb_array")
    if problem and not enjoys:
        raise ValueError(f"{environment} gives no pictures for a video: {problem}; Gymnasium's Env.render says how")
    if problem and not parsed.no_render:
        print(f"{environment} cannot be shown ({problem}), so its returns are printed only (--no-render)")
        parsed.no_render = True
    if enjoys and not parsed.no_render and not _has_display():
        print("There is no display here, so the agent is not shown (--no-render); `equirl record` writes a video")
        parsed.no_render = True


def _like_the_agent(parsed: argparse.Namespace, folder: Path) -> None:
    """Take over from the folder of an agent what the arguments leave open, in place."""
    card = read_card(folder)
    parsed.algo, _ = algorithm_and_symmetry(folder)
    parsed.env = card.environment or getattr(parsed.env, "gym_id", parsed.env)
    parsed.env_kwargs = {**card.environment_kwargs, **(parsed.env_kwargs or {})} or None


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"))
