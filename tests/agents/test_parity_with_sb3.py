"""With a group of one element, every algorithm and method starts from and trains to SB3's own weights."""

import pytest
from parity import ALGORITHMS, METHODS, largest_gap, train_pair

ROUND_OFF = 1e-6


CONTINUOUS = ("sac", "td3", "ddpg", "tqc", "crossq")
CASES = [("CartPole-v1", name) for name in ALGORITHMS if name not in CONTINUOUS]
CASES += [("equirl/GridWorld-v0", name) for name in ("dqn", "ppo")]
CASES += [("Pendulum-v1", name) for name in (*CONTINUOUS, "ppo", "a2c-adam")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("environment_id", "algorithm"), CASES)
def test_a_trivial_group_trains_as_stock_does(algorithm: str, method: str, environment_id: str) -> None:
    # TRPO's conjugate gradient makes round-off large from its second update on, once λ's zeros are among its sums.
    steps = 64 if algorithm == "trpo" else 150
    before, after = train_pair(algorithm, method, environment_id, steps, seed=3)

    assert largest_gap(*before) == 0
    assert largest_gap(*after) < ROUND_OFF
    (stock_before, ours_before), (_, ours_after) = before, after
    assert largest_gap(stock_before, ours_after) > 1e-3  # it did train
    assert all("aggregator." in key for key in ours_before.keys() - stock_before)


def test_the_comparison_sees_another_seed() -> None:
    (stock, _), _ = train_pair("dqn", "equitune", "CartPole-v1", steps=1, seed=3)
    (_, other), _ = train_pair("dqn", "equitune", "CartPole-v1", steps=1, seed=4)
    assert largest_gap(stock, other) > 1e-2
