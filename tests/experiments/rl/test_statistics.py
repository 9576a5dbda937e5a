import numpy as np
import pandas as pd

from equirl.agents.interquartile import interquartile_interval
from equirl.agents.intervals import superiority_interval
from equirl.experiments.rl.report import draw_performance_profile, run_scores, score_table


def _study() -> pd.DataFrame:
    rows = []
    for seed in range(4):
        rows += [("plain", seed, t, 0.1 * seed) for t in (100, 200, 300, 400)]
        rows += [("fast", seed, t, 1.0) for t in (100, 200)]  # learned, and ended
    return pd.DataFrame(rows, columns=["agent", "seed", "timesteps", "success_rate"])


def test_a_run_that_ended_keeps_its_last_value() -> None:
    scores = run_scores(_study(), 400)
    np.testing.assert_allclose(scores["fast"], np.ones((4, 1)))
    np.testing.assert_allclose(scores["plain"].ravel(), [0.0, 0.1, 0.2, 0.3])


def test_the_table_agrees_with_definitions() -> None:
    table = score_table(_study(), 400)
    plain, fast = table.splitlines()[2:]
    assert plain.endswith("| - |")
    low, high = superiority_interval(16, 4, 4)
    assert fast.endswith(f"| 1.00 ({low:.2f} to {high:.2f}), 16 of 16 pairs |")
    low, high = interquartile_interval([0.0, 0.1, 0.2, 0.3], (0, 1))
    assert plain.startswith(f"| plain | 0.150 | {low:.3f} to {high:.3f} |")
    assert "| fast | 1.000 | - |" in table  # all runs agree: how much they may vary is not known
    assert "95 % interval, 4 runs" in table.splitlines()[0]
    assert score_table(_study(), 400) == table


def test_a_profile_is_drawn() -> None:
    (axes,) = draw_performance_profile(_study(), 400).axes
    plain, fast = axes.get_lines()
    assert fast.get_ydata()[:-1].min() == 1  # all runs are above each score below 1
    assert plain.get_ydata()[0] < 1
    assert axes.get_title() == "Performance profile; 95 % band around each curve: ±0.62 (4 runs)"
