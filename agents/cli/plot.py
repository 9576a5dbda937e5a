"""``equirl plot``: rl_zoo3's plot of training curves, with our defaults and a file to write to."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from equirl.agents.cli.zoo import DEFAULT_ENVIRONMENT, arguments_of, folder_name
from equirl.agents.files import written_whole

__all__ = ["main"]

_HELP = """\
usage: equirl plot [-o FILE.png] [options of rl_zoo3's plot_train]

Plots the training curves of all runs of an environment in a folder: success rate for equirl's own, else reward.

  -o FILE        write the plot to FILE; by default training_curves.png where there is no display, else a window

most used (all of them: equirl plot --help-all):
  -a ALGO        default dqn                     -e ID ...         default equirl/GridWorld-v0
  -f DIR         folder of the runs, default logs
  -x AXIS        steps, episodes or time         -y AXIS           success, reward or length
  -w N           rolling window in episodes, default 100

examples:
  equirl plot -o curves.png
  equirl plot -y reward -x time
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl plot`` and return its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(_HELP, end="")
        return 0
    parser = argparse.ArgumentParser(prog="equirl plot", add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output")
    parser.add_argument("--help-all", action="store_true")
    ours, theirs = parser.parse_known_args(arguments)

    import matplotlib as mpl

    if ours.output is not None:
        mpl.use("Agg")
    from matplotlib import pyplot as plt
    from rl_zoo3.plots.plot_train import plot_train  # slow, so only when it is needed

    headless = mpl.get_backend().lower() == "agg"  # what matplotlib falls back to without a display
    defaults = ["-a", "dqn", "-e", folder_name(DEFAULT_ENVIRONMENT), "-f", "logs"]
    named = [a for i, a in enumerate(theirs) if theirs[i - 1] in ("-e", "--env")]
    if all(name.startswith("equirl") for name in named):
        defaults += ["-y", "success"]  # our environments report it; others give rl_zoo3's default, the reward
    # rl_zoo3 compares with folder names, in which slashes are dashes.
    passed = [folder_name(a) if theirs[i - 1] in ("-e", "--env") else a for i, a in enumerate(theirs)]
    with arguments_of("equirl plot", ["--help"] if ours.help_all else [*defaults, *passed]):
        plot_train()  # type: ignore[no-untyped-call]
    if ours.output is not None or headless:
        output = ours.output or "training_curves.png"
        with written_whole(output) as temporary:
            plt.gcf().savefig(temporary, dpi=150, format="png")
        print(f"Plot written to {output}")
    return 0
