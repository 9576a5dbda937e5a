"""Train with a group of one element beside SB3's own policies, longer than a test has time for.

Prints the largest difference of the weights before and after training, one line for each run. Exit status 1 if one
exceeds the tolerance.

examples:
  python tests/peers/long_parity.py --steps 5000 --seeds 0 1 2
  python tests/peers/long_parity.py --algorithms dqn qrdqn --methods lambda_equitune --environments Acrobot-v1
"""

# ruff: noqa: T201  # a command-line program prints

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from parity import ALGORITHMS, METHODS, largest_gap, train_pair


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every combination and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(ALGORITHMS), default=list(ALGORITHMS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--environments", nargs="+", default=["CartPole-v1", "equirl/GridWorld-v0"], metavar="ID")
    parser.add_argument("--steps", type=int, default=2000, help="environment steps of each run (default: 2000)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--tolerance", type=float, default=1e-6, help="default: 1e-6")
    options = parser.parse_args(arguments)
    if options.steps < 1 or not options.tolerance >= 0:
        parser.error("--steps must be a whole number from 1 and --tolerance at least 0")
    worst = 0.0
    for environment_id in options.environments:
        for name in options.algorithms:
            for method in options.methods:
                for seed in options.seeds:
                    before, after = train_pair(name, method, environment_id, options.steps, seed)
                    gaps = largest_gap(*before), largest_gap(*after)
                    worst = max(worst, *gaps)
                    print(
                        f"{environment_id} {name} {method} seed {seed}: before {gaps[0]:.1e}, after {gaps[1]:.1e}",
                        flush=True,
                    )
    print(f"largest difference {worst:.1e}, tolerance {options.tolerance:.1e}")
    return int(worst > options.tolerance)


if __name__ == "__main__":
    raise SystemExit(main())
