"""What discovery finds on worlds whose symmetry is known: ``python tests/figures/discovery.py --seeds 3 --csv FILE``.

One row for each world and seed: the order of its group, the order found, the outcome, the error, CPU seconds. The exit
status is 1 if a group is larger than the true one.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from found_worlds import Line, NoisyWalk, Torus, WalledCartPole

from equirl.envs import make_environment
from equirl.envs.discovery import discover_symmetry

COLUMNS = ("world", "seed", "order", "found", "outcome", "error", "cpu_seconds")

_LAKE = ["SFFF", "FFFF", "FFFF", "FFFG"]

WORLDS: dict[str, tuple[Callable[[], Any], int]] = {
    **{name: (lambda name=name: gym.make(name), 2) for name in ("CartPole-v1", "Acrobot-v1", "Pendulum-v1")},
    **{name: (lambda name=name: gym.make(name), 1) for name in ("MountainCar-v0", "MountainCarContinuous-v0")},
    **{name: (lambda name=name: gym.make(name), 1) for name in ("FrozenLake-v1", "Taxi-v4", "CliffWalking-v1")},
    "FrozenLake, empty": (lambda: gym.make("FrozenLake-v1", desc=_LAKE), 2),
    "FrozenLake, empty, no slips": (lambda: gym.make("FrozenLake-v1", desc=_LAKE, is_slippery=False), 2),
    "GridWorld": (lambda: gym.make("equirl/GridWorld-v0"), 8),
    "EmptyRoom": (lambda: make_environment("equirl/EmptyRoom-v0", "minigrid-d4"), 8),
    "torus 5x5": (Torus, 200),
    "torus 7x7": (lambda: Torus(7), 392),
    "torus 5x5, a marked cell": (lambda: Torus(marked=True), 8),
    "torus 4x4, ice": (lambda: Torus(4, ice=0.3), 128),
    "three particles": (Line, 6),
    "three particles, one heavy": (lambda: Line(2.0), 2),
    "noisy walk": (NoisyWalk, 2),
    "noisy walk, a drift": (lambda: NoisyWalk(drift=0.005), 1),
    "noisy walk, louder on the right": (lambda: NoisyWalk(louder=1.3), 1),
    "cart with a wall": (WalledCartPole, 1),
    **{name: (lambda name=name: gym.make(name), 2) for name in ("Ant-v5", "Walker2d-v5")},
    "Walker2d-v4": (lambda: gym.make("Walker2d-v4"), 1),
}
if importlib.util.find_spec("Box2D") is not None:
    WORLDS["LunarLander-v3"] = (lambda: gym.make("LunarLander-v3"), 2)


def main() -> int:
    """Print, and perhaps write, the table; return 1 if something false was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 .. N - 1 (1)")
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps (20000)")
    parser.add_argument("--worlds", nargs="+", choices=list(WORLDS), default=list(WORLDS), metavar="WORLD")
    parser.add_argument("--csv", type=Path, help="file for the table")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[tuple[Any, ...]] = []
    print(",".join(COLUMNS))
    for seed in range(options.seeds):
        for world in options.worlds:
            make, order = WORLDS[world]
            start = time.process_time()
            report = discover_symmetry(make(), steps=options.steps, seed=seed)
            found = report.symmetry.group.order if report.symmetry is not None else 1
            seconds = round(time.process_time() - start, 1)
            rows.append((world, seed, order, found, report.outcome, round(report.error, 4), seconds))
            print(*rows[-1], sep=",", flush=True)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return int(any(order % found for _, _, order, found, *_ in rows))


if __name__ == "__main__":
    sys.exit(main())
