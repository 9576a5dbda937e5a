"""How often the 95 % intervals of equirl hold the true value: ``python tests/figures/coverage.py --csv FILE``.

One row for each kind of interval, number of runs or episodes, and case: coverage in per cent of simulated studies. The
percentile bootstrap, which equirl does not use, is there for comparison.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from coverage_studies import (
    SCORES,
    bootstrap_coverage,
    mean_coverage,
    middle_coverage,
    profile_coverage,
    rate_coverage,
    stratified_coverage,
    superiority_coverage,
)

COLUMNS = ("interval", "n", "case", "coverage")
SEEDS = (3, 5, 10)
EPISODES = (20, 100)

Row = tuple[str, int, str, float]


def main() -> int:
    """Print, and perhaps write, the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=20_000, help="simulated studies of each row (20000)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there")
    options = parser.parse_args()
    if options.studies < 1_000:
        parser.error(f"argument --studies: at least 1000 give a coverage to one per cent; got {options.studies}")
    rows: list[Row] = []
    shown = csv.writer(sys.stdout, lineterminator="\n")
    shown.writerow(COLUMNS)
    for kind, n, case, coverage in _rows(options.studies, np.random.default_rng(0)):
        rows.append((kind, n, case, round(100 * coverage, 1)))
        shown.writerow(rows[-1])
    if options.csv is not None:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])
    return 0


def _rows(studies: int, random: np.random.Generator) -> Iterator[Row]:
    for case, scores in SCORES.items():
        for n in SEEDS:
            yield "interquartile mean", n, case, middle_coverage(scores, n, studies, random)
            yield "percentile bootstrap (not used)", n, case, bootstrap_coverage(scores, n, studies // 10, random)
        for n in EPISODES:
            yield "mean", n, case, mean_coverage(scores, n, studies, random)
    for n in EPISODES:
        everywhere = rate_coverage(np.linspace(0.0005, 0.9995, 1999), n)
        yield "rate", n, "mean over all rates", float(everywhere.mean())
        yield "rate", n, "least over all rates", float(everywhere.min())
        for rate in (0.5, 0.8, 0.9, 0.95, 0.99):
            yield "rate", n, f"rate {rate}", float(rate_coverage(np.array([rate]), n)[0])
    for rate, concentration in ((0.1, 4.0), (0.3, 1.0), (0.3, 1000.0), (0.5, 1.0), (0.9, 4.0)):
        case = f"mean rate {rate}, Beta of parameters that add up to {concentration:g}"
        yield "rate over 10 strata", 200, case, stratified_coverage(rate, concentration, 20, studies // 4, random)
    probabilities = (*np.linspace(0.5, 0.95, 10).round(2).tolist(), 0.97, 0.98, 0.99)
    for n in SEEDS:
        for spread in (1.0, 3.0):
            found = [superiority_coverage(p, spread, n, n, studies, random) for p in probabilities]
            case = f"normal, spread 1 to {spread:g}"
            yield "a run beats another", n, f"{case}, mean over probabilities", float(np.mean(found))
            yield "a run beats another", n, f"{case}, least", float(np.min(found))
        yield "performance profile", n, "uniform", profile_coverage(n, studies, random)


if __name__ == "__main__":
    sys.exit(main())
