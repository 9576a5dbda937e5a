"""Draw how many environment steps and CPU seconds agents need on grids of several sizes, from committed studies.

Not collected by an ordinary `pytest`.

example:
  python tests/figures/sizes.py 5=experiments/results/gridworld_5x5 7=experiments/results/gridworld_7x7 \
    10=experiments/results/gridworld_10x10 --out experiments/results/gridworld_10x10/sizes.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equirl.experiments.figures import legend_outside, make_panels, save_figure, styles_of
from equirl.experiments.rl.report import read_learning_study, steps_to_threshold

_COSTS = {"timesteps": "environment steps to 97.5 %", "cpu_seconds": "CPU seconds to 97.5 %"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw, print the ratios to plain DQN and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", metavar="SIZE=FOLDER", help="rows of the grid, and the study's folder")
    parser.add_argument("--out", type=Path, required=True, help="the picture")
    options = parser.parse_args(arguments)
    folders = {int(size): Path(folder) for size, _, folder in (each.partition("=") for each in options.studies)}
    reached = {size: steps_to_threshold(read_learning_study(folder), 0.975) for size, folder in folders.items()}
    agents = [
        agent for agent in reached[min(reached)].agent.unique() if all(agent in set(r.agent) for r in reached.values())
    ]
    figure, (panels,) = make_panels(1, 2, width=9.0, height=4.0)
    for axes, (cost, label) in zip(panels, _COSTS.items(), strict=True):
        for agent, style in styles_of(agents).items():
            values = [runs[runs.agent == agent][cost] for runs in reached.values()]
            middle = np.array([each.median() for each in values])
            spread = np.abs([[m - each.min(), each.max() - m] for m, each in zip(middle, values, strict=True)]).T
            axes.errorbar(list(reached), middle, yerr=spread, label=agent, capsize=2, **style)
            plain = [runs[runs.agent == "plain"][cost].median() for runs in reached.values()]
            print(
                cost,
                agent,
                *(f"{size}: {m:,.1f} ({m / p:.2f})" for size, m, p in zip(reached, middle, plain, strict=True)),
            )
        axes.set(yscale="log", xlabel="rows of the grid", ylabel=label, xticks=list(reached))
        axes.grid(alpha=0.3)
    seeds = sorted({runs.seed.nunique() for runs in reached.values()})
    figure.suptitle(f"Median and range of {seeds[0]} to {seeds[-1]} seeds", fontsize=10)
    legend_outside(figure, 3)
    save_figure(figure, options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
