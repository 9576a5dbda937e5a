"""``equirl plot``: rl_zoo3's plot of training curves, with our defaults and a file to write to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equirl.agents.cli.arguments import CommandParser, new_file, whole
from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, folder_name, handed_over
from equirl.files import written_whole

__all__ = ["main"]

_WINDOW = 100
"""Episodes of the rolling window where runs are long enough: rl_zoo3's own."""

_HELP = """\
usage: equirl plot [-o FILE.png] [options of rl_zoo3's plot_train]

Plots the training curves of all runs of an environment in a folder: the success rate if all of them report it, else the
reward. Runs that are left out are named.

  -o FILE        write the plot to FILE; by default training_curves.png where there is no display, else a window

most used (all of them: equirl plot --help-all):
  -a ALGO        default dqn                     -e ID ...         default equirl/GridWorld-v0
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
    parser = CommandParser(prog="equirl plot", add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output", type=new_file)
    parser.add_argument("--help-all", action="store_true")
    ours, theirs = parser.parse_known_args(arguments)

    import matplotlib as mpl

    if ours.output is not None:
        mpl.use("Agg")
    from matplotlib import pyplot as plt
    from rl_zoo3.plots.plot_train import plot_train  # slow, so only when it is needed

    headless = mpl.get_backend().lower() == "agg"  # what matplotlib falls back to without a display
    defaults = {
        "algo": "dqn",
        "env": [folder_name(DEFAULT_ENVIRONMENT)],
        "exp_folder": "logs",
        "y_axis": None,
        "episode_window": None,
    }
    types = {"episode_window": whole(1), "max_timesteps": whole(1), "fontsize": whole(1), "figsize": whole(1)}
    with handed_over(
        "equirl plot",
        ["--help"] if ours.help_all else theirs,
        check=_complete,
        defaults=defaults,
        types=types,
        other_options=("-o", "--output", "--help-all"),
    ):
        plot_train()  # type: ignore[no-untyped-call]
    if ours.output is not None or headless:
        output = ours.output or "training_curves.png"
        with written_whole(output) as temporary:
            plt.gcf().savefig(temporary, dpi=150, format="png")
        print(f"Plot written to {output}")
    return 0


def _complete(parsed: argparse.Namespace) -> None:
    """Choose what to plot where that was left open, and say which runs are left out and why.

    Raises:
        ValueError: There are no runs, or none that can be drawn.
    """
    if not all(environment.strip() for environment in parsed.env):
        raise ValueError("-e is empty; name an environment, such as equirl/GridWorld-v0")
    # rl_zoo3 compares with folder names, in which slashes are dashes.
    parsed.env = [folder_name(environment) for environment in parsed.env]
    inside = Path(parsed.exp_folder) / parsed.algo
    if not inside.is_dir():
        raise ValueError(f"there are no runs in {inside}: train one with `equirl train`, or name the folder: -f")
    folders = sorted(path for path in inside.iterdir() if path.is_dir())
    chosen = {path: _episodes(path) for path in folders if any(name in path.name for name in parsed.env)}
    if not chosen:
        there = ", ".join(sorted({path.name.rpartition("_")[0] or path.name for path in folders})) or "nothing"
        raise ValueError(f"there are no runs of {', '.join(parsed.env)} in {inside}; there are runs of: {there}")
    runs = {path: episodes for path, episodes in chosen.items() if episodes is not None}
    if parsed.max_timesteps is not None:
        runs = {path: episodes[episodes["l"].cumsum() <= parsed.max_timesteps] for path, episodes in runs.items()}
    if parsed.y_axis is None:
        with_success = [path for path, episodes in runs.items() if "is_success" in episodes]
        parsed.y_axis = "success" if runs and len(with_success) == len(runs) else "reward"
    if parsed.y_axis == "success":
        runs = {path: episodes for path, episodes in runs.items() if "is_success" in episodes}
    longest = max((len(episodes) for episodes in runs.values()), default=0)
    if parsed.episode_window is None:
        parsed.episode_window = _WINDOW if longest >= _WINDOW else max(1, longest // 5)
        if longest < _WINDOW:
            print(f"All runs are short: the rolling window is {parsed.episode_window} episodes (-w)")
    drawn = 0
    for path in chosen:
        if chosen[path] is None:
            print(f"Left out: {path.name} has no monitor file with episodes")
        elif path not in runs:
            print(f"Left out: {path.name} does not report success; -y reward draws it")
        elif len(runs[path]) < parsed.episode_window:
            print(
                f"Left out: {path.name} has {len(runs[path])} episodes, fewer than the rolling window of "
                f"{parsed.episode_window}; a smaller one draws it: -w"
            )
        else:
            drawn += 1
    if not drawn:
        raise ValueError(f"none of the runs in {inside} can be drawn (see above)")


def _episodes(folder: Path) -> Any:
    """Return the episodes of a run as a data frame, ``None`` if there are none.

    Raises:
        ValueError: The file that SB3's ``Monitor`` wrote is damaged; the message names its folder.
    """
    from stable_baselines3.common.monitor import LoadMonitorResultsError, load_results

    try:
        episodes = load_results(str(folder))
    except LoadMonitorResultsError:
        return None
    except Exception as error:  # whatever a damaged file makes of JSON and pandas
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the monitor file in {folder} cannot be read ({type(error).__name__}: {reason}); move the folder away"
        ) from error
    return None if episodes.empty else episodes
