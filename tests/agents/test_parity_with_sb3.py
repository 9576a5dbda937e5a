"""With a group of one element, every algorithm and method starts from and trains to SB3's own weights."""

import pytest
from parity import ALGORITHMS, METHODS, largest_gap, train_pair

ROUND_OFF = 1e-6


CASES = [("CartPole-v1", name) for name in ALGORITHMS] + [("equirl/GridWorld-v0", name) for name in ("dqn", "ppo")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("environment_id", "algorithm"), CASES)
def test_a_trivial_group_trains_as_stock_does(algorithm: str, method: str, environment_id: str) -> None:
    before, after = train_pair(algorithm, method, environment_id, steps=150, seed=3)

    assert largest_gap(*before) == 0
    assert largest_gap(*after) < ROUND_OFF
    (stock_before, ours_before), (_, ours_after) = before, after
    assert largest_gap(stock_before, ours_after) > 1e-3  # it did train
    assert all(key.startswith(("aggregator.", "q_net", "quantile_net")) for key in ours_before.keys() - stock_before)


def test_the_comparison_sees_another_seed() -> None:
    (stock, _), _ = train_pair("dqn", "equitune", "CartPole-v1", steps=1, seed=3)
    (_, other), _ = train_pair("dqn", "equitune", "CartPole-v1", steps=1, seed=4)
    assert largest_gap(stock, other) > 1e-2
