"""Intervals of 95 %: they agree with SciPy where it has the like, and hold the truth as often as they say."""

import csv
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
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
from rliable import metrics

from equirl.agents import summary
from equirl.agents.interquartile import interquartile_interval, interquartile_mean
from equirl.agents.intervals import (
    interval_text,
    mean_interval,
    profile_margin,
    rate_interval,
    return_interval,
    stratified_rate_interval,
    superiority_interval,
)

_RATES = np.linspace(0.0005, 0.9995, 1999)
_PROMISED = ("normal", "uniform", "Beta(8, 2)", "Beta(9, 1)", "Beta(19, 1)", "exponential")


@pytest.mark.parametrize("n", [3, 5, 10])
def test_interquartile_intervals_cover_95_per_cent(n: int) -> None:
    random = np.random.default_rng(n)
    for name in (*_PROMISED, "one in ten fails"):
        assert 0.93 < middle_coverage(SCORES[name], n, 20_000, random) < 0.97, name
    for name in ("Beta(0.5, 0.5)", "Beta(1.8, 0.2)"):  # the docstring does not promise more
        assert 0.86 < middle_coverage(SCORES[name], n, 10_000, random) < 0.95, name
    if n < 10:  # the check has power: it rejects the percentile bootstrap
        assert bootstrap_coverage(SCORES["normal"], n, 2_000, random) < 0.925


@pytest.mark.parametrize("n", [2, 4, 6, 7, 8, 9, 11, 12, 16, 30])
def test_other_numbers_of_runs_are_covered_as_well(n: int) -> None:
    random = np.random.default_rng(n)
    for name in ("normal", "uniform", "Beta(9, 1)"):
        assert 0.925 < middle_coverage(SCORES[name], n, 10_000, random) < 0.97, name


@pytest.mark.parametrize("n", [20, 100])
def test_intervals_of_means_over_episodes_cover_95_per_cent(n: int) -> None:
    random = np.random.default_rng(n)
    for name in (*_PROMISED, "Student, 3 d.f."):
        assert 0.93 < mean_coverage(SCORES[name], n, 20_000 if n == 20 else 10_000, random) < 0.97, name
    assert mean_coverage(SCORES["one in ten fails"], 20, 10_000, random) < 0.9  # as the docstring says
    assert 0.915 < mean_coverage(SCORES["Beta(9, 1)"], 5, 20_000, random) < 0.94


@pytest.mark.parametrize("n", [3, 5, 10, 20, 100])
def test_intervals_of_rates_cover_95_per_cent_at_every_rate(n: int) -> None:
    coverage = rate_coverage(_RATES, n)
    assert coverage.min() > 0.95
    if n >= 20:
        assert coverage.mean() < 0.97
    counts = np.arange(n + 1)
    exact = [scipy.stats.binomtest(count, n).proportion_ci(0.95, method="exact") for count in counts]
    for count, (low, high) in zip(counts, exact, strict=True):
        ours = rate_interval(count, n)
        assert low - 1e-6 <= ours[0] <= count / n <= ours[1] <= high + 1e-6  # within Clopper and Pearson's
        if 0 < ours[0] < 1:  # just inside, the two tails that Blaker's test adds have 5 %; just outside, they have less
            assert _acceptability(count, n, ours[0] + 2e-6) >= 0.05 > _acceptability(count, n, ours[0] - 1e-9)


def _acceptability(count: int, n: int, rate: float) -> float:
    """Return the probability of all counts whose smaller tail is no larger than that of ``count``."""
    counts = np.arange(n + 1)
    tails = np.minimum(scipy.stats.binom.cdf(counts, n, rate), scipy.stats.binom.sf(counts - 1, n, rate))
    return float(scipy.stats.binom.pmf(counts, n, rate)[tails <= tails[count] * (1 + 1e-12)].sum())


def test_intervals_over_prompts_cover_95_per_cent() -> None:
    random = np.random.default_rng(0)
    for mean, concentration in ((0.1, 4), (0.3, 1), (0.3, 1000), (0.9, 4)):
        coverage = stratified_coverage(mean, concentration, 20, 2_000, random)
        assert 0.94 < coverage < 0.98, (mean, concentration)
    random = np.random.default_rng(1)
    rates, held = np.repeat([0.05, 0.95], 50), 0
    for _ in range(1_000):  # to ignore the strata is to cover too much
        low, high = rate_interval(int((random.random(100) < rates).sum()), 100)
        held += low <= 0.5 <= high
    assert held > 990


def test_strata_that_tell_nothing_change_nothing() -> None:
    found = np.array([True, False, True, True])
    assert stratified_rate_interval(found, list("abcd")) == rate_interval(3, 4)
    exact = scipy.stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert stratified_rate_interval(found, list("aaaa")) == pytest.approx((exact.low, exact.high))
    assert stratified_rate_interval(np.ones(20, dtype=bool), [0, 1] * 10)[1] == 1.0


@pytest.mark.parametrize(("n", "n_other"), [(3, 3), (5, 5), (10, 10), (3, 10)])
def test_intervals_of_wins_cover_95_per_cent(n: int, n_other: int) -> None:
    random = np.random.default_rng(n)
    probabilities = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
    for spread in (1.0, 3.0) if n == n_other else (1.0,):
        found = [superiority_coverage(p, spread, n, n_other, 5_000, random) for p in probabilities]
        assert 0.93 < np.mean(found) < 0.97, spread
        assert min(found) > 0.895, spread


def test_all_pairs_won_leave_room() -> None:
    low, high = superiority_interval(25, 5, 5)
    assert high == 1.0
    assert 0.6 < low < 0.7
    assert superiority_interval(9, 3, 3)[0] < 0.5  # three runs against three prove nothing: by chance 1 in 20 are so
    assert superiority_interval(0, 5, 5) == pytest.approx((1 - high, 1 - low))
    assert np.mean(superiority_interval(12.5, 5, 5)) == pytest.approx(0.5)
    assert all(math.isnan(end) for end in superiority_interval(5, 1, 5))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_band_around_a_profile_is_exact(n: int) -> None:
    assert 0.94 < profile_coverage(n, 20_000, np.random.default_rng(n)) < 0.96


def test_intervals_of_means_are_students_without_skewness() -> None:
    values = np.array([1.0, 2.0, 4.0, 5.0])
    low, high = scipy.stats.t.interval(0.95, 3, 3.0, scipy.stats.sem(values))
    assert mean_interval(values) == pytest.approx((3 + (1 + 1 / 16) * (low - 3), 3 + (1 + 1 / 16) * (high - 3)))
    tail = np.array([1.0, 1.0, 1.0, 2.0, 9.0])
    low, high = mean_interval(tail)
    assert high - tail.mean() > tail.mean() - low  # a long tail above: the mean may be much higher
    assert mean_interval(10 - tail) == pytest.approx((10 - high, 10 - low))
    both = mean_interval(np.stack([tail, 10 - tail], axis=1))
    assert both[0] == pytest.approx([low, 10 - high])


def test_interquartile_means_are_rliables_and_their_intervals_hold_them() -> None:
    for n in (1, 3, 5, 8, 10):
        curves = np.random.default_rng(n).random((n, 3))
        middle = interquartile_mean(curves)
        assert np.allclose(middle, [metrics.aggregate_iqm(curves[:, t]) for t in range(3)])
        low, high = interquartile_interval(curves, (0, 1))
        assert np.isnan(low).all() if n == 1 else bool(((low >= 0) & (low < middle) & (middle < high)).all())
    nothing = interquartile_mean([[1.0, np.nan], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]])
    assert nothing.tolist()[0] == 1.0
    assert math.isnan(nothing[1])


def test_the_table_in_the_docs_is_of_these_intervals(checkout: Path) -> None:
    with (checkout / "experiments/results/coverage.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["interval"] == "rate"]
    for n in (20, 100):
        shown = {row["case"]: float(row["coverage"]) for row in rows if row["n"] == str(n)}
        everywhere = 100 * rate_coverage(_RATES, n)
        assert shown["mean over all rates"] == pytest.approx(everywhere.mean(), abs=0.051)
        assert shown["least over all rates"] == pytest.approx(everywhere.min(), abs=0.051)


def test_what_is_not_known_has_no_interval() -> None:
    all_well = np.ones(20, dtype=bool)
    for equal, successes in (
        (np.full(20, 500.0), None),
        (np.zeros(20), None),
        (np.zeros(20), ~all_well),  # what a success would pay is not known
        (np.full(20, 10.0), all_well),
        (np.array([3.0]), None),
    ):
        assert interval_text(return_interval(equal, successes), ".3f") == "-"
    assert return_interval(all_well, all_well) == rate_interval(20, 20) == pytest.approx((0.84, 1.0), abs=2e-3)
    assert rate_interval(0, 20) == pytest.approx((0.0, 0.16), abs=2e-3)
    for runs in ([0.5], [0.5] * 5, [0.0, *[0.5] * 9]):  # of ten runs the middle six count
        assert interval_text(interquartile_interval(runs), ".3f") == "-"
    assert interval_text((0.123, 0.456), ".1f") == "0.1 to 0.5"


def test_what_means_nothing_is_refused() -> None:
    for call, told in (
        (lambda: rate_interval(5, 4), "at most n, the number of episodes; got 5 of 4"),
        (lambda: rate_interval(0, 0), "n must be a whole number from 1"),
        (lambda: stratified_rate_interval([True], []), "got 0 strata of 1 samples"),
        (lambda: mean_interval([]), "got the shape [0]"),
        (lambda: return_interval([], None), "returns holds the return of each episode, [n]; got the shape [0]"),
        (lambda: return_interval([1.0, 2.0], [True]), "one entry an episode, [2]; got the shape [1]"),
        (lambda: interquartile_mean(3.0), "got the shape []"),
        (lambda: superiority_interval(10, 3, 3), "between 0 and n * n_other = 9"),
        (lambda: superiority_interval(math.nan, 3, 3), "got nan"),
        (lambda: profile_margin(0), "n must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            call()


def test_the_learning_curve_has_the_band_that_its_title_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(summary, "_draw", lambda *arguments: drawn.append(arguments))
    file, steps = tmp_path / "evaluations.npz", np.array([100, 200])
    returns = np.array([[1.0, 2.0, 4.0, 5.0], [9.0, 9.0, 9.0, 9.0]])
    np.savez(file, timesteps=steps, results=returns)
    summary.draw_learning_curve(file)
    np.savez(file, timesteps=steps, results=returns[1:])
    summary.draw_learning_curve(file)
    np.savez(file, timesteps=steps, results=returns, successes=returns > 2)
    summary.draw_learning_curve(file)
    (*_, of_returns, _, title), (*_, nothing_known), (*_, of_rates, _, _) = drawn
    assert title.endswith("4 episodes an evaluation, 95 % interval")
    assert np.allclose(of_returns, np.transpose([mean_interval(row) for row in returns]), equal_nan=True)
    assert np.isnan(of_returns[0]).tolist() == [False, True]
    assert nothing_known.endswith("4 episodes an evaluation")
    assert np.allclose(of_rates, np.transpose([rate_interval(2, 4), rate_interval(4, 4)]))
