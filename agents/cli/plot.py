"""``equirl plot``: training curves of the runs in a folder, one for each symmetry and method, a band over seeds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equirl.agents.cli.arguments import CommandParser, add_packages, new_file, whole
from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, import_packages, named_environment
from equirl.files import written_whole

__all__ = ["main"]

_WINDOW = 100
"""Episodes of the rolling window where runs are long enough: rl_zoo3's own."""

_COLUMNS = {"success": "is_success", "reward": "r", "length": "l"}
_Y_LABELS = {"success": "success rate", "reward": "return", "length": "episode length"}
_X_LABELS = {"steps": "environment steps", "episodes": "episodes", "time": "hours"}

_HELP = """\
usage: equirl plot [-o FILE.png] [-a ALGO] [-e ID ...] [-f DIR] [-x AXIS] [-y AXIS] [-w N]

Plots the training curves of all runs of an environment in a folder: the success rate if all of them report it, else the
reward. Runs that differ by their seed alone make one curve: the interquartile mean over the seeds, in a band from the
lowest to the highest seed. The legend names symmetry and method, and the number of seeds. Runs that are left out are
named.

  -o FILE        write the plot to FILE; by default training_curves.png where there is no display, else a window

most used (all of them: equirl plot --help-all):
  -a ALGO        default dqn                     -e ID ...         default equirl/GridWorld-v0; or MODULE:ID
  -f DIR         folder of the runs, default logs
  -x AXIS        steps, episodes or time         -y AXIS           success, reward or length
  -w N           rolling window in episodes, default 100 (less if all runs are shorter)

examples:
  equirl plot -o curves.png
  equirl plot -y reward -x time
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl plot`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.help_all:
        parser.print_help()
        return 0
    from equirl.agents.cli.training_curves import curve_of, group_runs  # slow, so only when it is needed

    runs, window, y_axis = _runs(options)
    groups, left_out = group_runs(runs)
    for name, reason in left_out.items():
        print(f"Left out: {name} {reason}")

    import matplotlib as mpl

    if options.output is not None:
        mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=options.figsize, layout="constrained")
    for group in groups:
        curve = curve_of(group.runs, options.x_axis, _COLUMNS[y_axis], window)
        axes.plot(curve.x, curve.middle, linewidth=2, label=f"{group.label} (n = {len(group.runs)})")
        axes.fill_between(curve.x, curve.low, curve.high, alpha=0.2)
        print(f"Drawn: {group.label}, n = {len(group.runs)}: {', '.join(run.folder.name for run in group.runs)}")
    size = options.fontsize
    axes.set_xlabel(_X_LABELS[options.x_axis], fontsize=size)
    axes.set_ylabel(f"{_Y_LABELS[y_axis]}, mean of {window} episodes", fontsize=size)
    axes.set_title(f"{', '.join(options.env)}: interquartile mean, band: all seeds", fontsize=size)
    axes.grid(alpha=0.3)
    figure.legend(fontsize=size, loc="outside lower center", ncols=2, frameon=False)  # where it covers no data
    if options.output is None and mpl.get_backend().lower() != "agg":
        plt.show()
    else:  # Agg is what matplotlib falls back to without a display
        output = options.output or Path("training_curves.png")
        with written_whole(output) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
        print(f"Plot written to {output}")
    plt.close(figure)
    return 0


def _parser() -> CommandParser:
    parser = CommandParser(prog="equirl plot", add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output", type=new_file, metavar="FILE", help="write the plot to FILE")
    parser.add_argument("-a", "--algo", default="dqn", help="algorithm (dqn)")
    parser.add_argument("-e", "--env", nargs="+", default=[DEFAULT_ENVIRONMENT], metavar="ID", help="environments")
    parser.add_argument("-f", "--exp-folder", default="logs", metavar="DIR", help="folder of the runs (logs)")
    parser.add_argument("-x", "--x-axis", choices=list(_X_LABELS), default="steps")
    parser.add_argument("-y", "--y-axis", choices=list(_COLUMNS))
    parser.add_argument("-w", "--episode-window", type=whole(1), metavar="N", help="episodes of the rolling mean")
    parser.add_argument("-max", "--max-timesteps", type=whole(1), metavar="N", help="leave out what comes later")
    parser.add_argument("--figsize", nargs=2, type=whole(1), default=[8, 5], metavar="N", help="inches (8 5)")
    parser.add_argument("--fontsize", type=whole(1), default=10, metavar="N", help="points (10)")
    add_packages(parser)
    parser.add_argument("--help-all", action="store_true", help="list all options")
    return parser


def _runs(options: argparse.Namespace) -> tuple[list[Any], int, str]:
    """Return the runs that can be drawn, the rolling window and the quantity, and say which runs are left out and why.

    Raises:
        ValueError: There are no runs, or none that can be drawn; or a module that cannot be imported.
    """
    from equirl.agents.cli.training_curves import read_runs

    if not all(environment.strip() for environment in options.env):
        raise ValueError("-e is empty; name an environment, such as equirl/GridWorld-v0")
    import_packages(options.gym_packages)
    options.env = [named_environment(name) if ":" in name else name for name in options.env]
    inside = Path(options.exp_folder) / options.algo
    if not inside.is_dir():
        raise ValueError(f"there are no runs in {inside}: train one with `equirl train`, or name the folder: -f")
    chosen = read_runs(inside, options.env)
    if not chosen:
        folders = [path for path in inside.iterdir() if path.is_dir()]
        there = ", ".join(sorted({path.name.rpartition("_")[0] or path.name for path in folders})) or "nothing"
        raise ValueError(f"there are no runs of {', '.join(options.env)} in {inside}; there are runs of: {there}")
    runs = [run for run in chosen if run.episodes is not None]
    if options.max_timesteps is not None:
        limit = options.max_timesteps
        runs = [replace(run, episodes=run.episodes[run.episodes["l"].cumsum() <= limit]) for run in runs]
    with_success = [run for run in runs if "is_success" in run.episodes]
    y_axis = options.y_axis or ("success" if runs and len(with_success) == len(runs) else "reward")
    reporting = with_success if y_axis == "success" else runs
    longest = max((len(run.episodes) for run in reporting), default=0)
    window = options.episode_window
    if window is None:
        window = _WINDOW if longest >= _WINDOW else max(1, longest // 5)
        if longest < _WINDOW:
            print(f"All runs are short: the rolling window is {window} episodes (-w)")
    reasons = {run.folder: "has no monitor file with episodes" for run in chosen}
    reasons |= {run.folder: "does not report success; -y reward draws it" for run in runs}
    for run in reporting:
        n = len(run.episodes)
        few = f"has {n} episodes, fewer than the rolling window of {window}; a smaller one draws it: -w"
        reasons[run.folder] = "" if n >= window else few
    for folder, reason in reasons.items():
        if reason:
            print(f"Left out: {folder.name} {reason}")
    drawn = [run for run in reporting if not reasons[run.folder]]
    if not drawn:
        raise ValueError(f"none of the runs in {inside} can be drawn (see above)")
    return drawn, window, y_axis
