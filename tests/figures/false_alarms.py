"""How often the checker doubts a true symmetry: ``python tests/figures/false_alarms.py --seeds 20 --csv FILE``.

One row for each of 20 symmetric worlds: how many seeds gave "holds", "violated", "not checked", and CPU seconds. The
exit status is 1 if a seed gave "violated".
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from found_worlds import MOVES, Line, Torus

from equirl import MDPSymmetry, dihedral_group, image_representation
from equirl.displacements import displacement_representation
from equirl.envs import check_symmetry, make_environment
from equirl.envs.discovery import discover_symmetry

COLUMNS = ("world", "seeds", "holds", "violated", "not checked", "cpu_seconds")

_LAKE = ["SFFF", "FFFF", "FFFF", "FFFG"]


def _square(size: int) -> MDPSymmetry:
    group = dihedral_group(4)
    return MDPSymmetry(
        "square", image_representation(group, (2, size, size)), displacement_representation(group, MOVES)
    )


def _found(make: Callable[[], Any]) -> MDPSymmetry:
    symmetry = discover_symmetry(make()).symmetry
    if symmetry is None:
        raise RuntimeError("discovery found nothing where there is a symmetry; tests/figures/discovery.py tells more")
    return symmetry


def _lake(slips: bool = True) -> gym.Env[Any, Any]:
    return gym.make("FrozenLake-v1", desc=_LAKE, is_slippery=slips)


def _pendulum() -> gym.Env[Any, Any]:
    return gym.make("Pendulum-v1")


def _grid(**settings: Any) -> Callable[[], gym.Env[Any, Any]]:
    return lambda: gym.make("equirl/GridWorld-v0", **settings)


def _minigrid(name: str, symmetry: str, **settings: Any) -> tuple[Callable[[], gym.Env[Any, Any]], Any]:
    return lambda: make_environment(name, symmetry, **settings), symmetry


def _worlds() -> dict[str, tuple[Callable[[], Any], Any]]:
    """Return how each world is made, and its symmetry."""
    return {
        "CartPole-v1": (lambda: gym.make("CartPole-v1"), "cartpole-z2"),
        "Acrobot-v1": (lambda: gym.make("Acrobot-v1"), "acrobot-z2"),
        "Pendulum-v1": (_pendulum, _found(_pendulum)),
        "GridWorld 7x7": (_grid(), "grid-d4"),
        "GridWorld 5x5, slips": (_grid(size=5, slip=0.2), "grid-d4"),
        "GridWorld 4x4": (_grid(size=4), "grid-c4"),
        "EmptyRoom, whole": _minigrid("equirl/EmptyRoom-v0", "minigrid-d4", size=5),
        "EmptyRoom, egocentric": _minigrid("equirl/EmptyRoom-v0", "minigrid-egocentric-z2", size=5),
        "FourRooms": _minigrid("MiniGrid-FourRooms-v0", "minigrid-d4"),
        "DoorKey": _minigrid("MiniGrid-DoorKey-5x5-v0", "minigrid-d4"),
        "FrozenLake, empty, no slips": (lambda: _lake(False), _found(_lake)),
        "FrozenLake, empty": (_lake, _found(_lake)),
        "torus 5x5": (Torus, _square(5)),
        "torus 7x7": (lambda: Torus(7), _square(7)),
        "torus 4x4, ice": (lambda: Torus(4, ice=0.3), _square(4)),
        "three particles": (Line, _found(Line)),
        **{
            name: (lambda name=name: gym.make(name), "mirror")
            for name in ("Ant-v5", "Walker2d-v5", "Swimmer-v5", "Reacher-v5")
        },
    }


def main() -> int:
    """Print, and perhaps write, the table; return 1 if there was a false alarm."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 .. N - 1 (1)")
    parser.add_argument("--transitions", type=int, default=100, help="transitions of each check (100)")
    parser.add_argument("--resets", type=int, default=100, help="resets of each check (100)")
    parser.add_argument("--csv", type=Path, help="file for the table")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows: list[tuple[Any, ...]] = []
    print(",".join(COLUMNS))
    for world, (make, symmetry) in _worlds().items():
        start = time.process_time()
        reports = [
            check_symmetry(
                make(), symmetry, n_transitions=options.transitions, n_resets=options.resets, seed=seed,
                check_starts=world != "DoorKey",  # whose starts are not symmetric
            )
            for seed in range(options.seeds)
        ]  # fmt: skip
        verdicts = Counter(report.verdict for report in reports)
        seconds = round(time.process_time() - start, 1)
        counts = [verdicts[verdict] for verdict in ("holds", "violated", "not checked")]
        rows.append((world, options.seeds, *counts, seconds))
        print(*rows[-1], sep=",", flush=True)
        for report in reports:
            for violation in report.violations:
                print(f"  {violation}", file=sys.stderr)
    if options.csv is not None:
        with options.csv.open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return int(any(row[3] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
