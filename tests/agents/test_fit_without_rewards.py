"""A trained agent that knows one quadrant of its world gets to know the others by a λ that no reward has taught."""

from typing import Any

import pytest
import torch
from specialist import rates, specialist, states
from stable_baselines3 import DQN

from equirl import equivariance_error
from equirl.agents import LambdaFit, fit_lambda, replay_observations, symmetrize_agent
from equirl.agents.scores import action_scores
from equirl.agents.symmetrization import agent_symmetry


@pytest.fixture(scope="module")
def one_quadrant() -> DQN:
    model = specialist()
    known, unseen = rates(model)
    assert known > 0.97
    assert unseen < 0.3
    return model


@pytest.mark.parametrize("symmetry", ["grid-c4", "grid-d4"])
@pytest.mark.parametrize("objective", ["reproduce", "recognize"])
def test_lambda_fitted_without_rewards_generalizes(one_quadrant: DQN, symmetry: str, objective: Any) -> None:
    fitted = symmetrize_agent(one_quadrant, symmetry, "lambda_equitune", fit=LambdaFit(objective=objective))
    known, unseen = rates(fitted)
    assert known >= rates(one_quadrant)[0] - 0.01
    assert unseen >= 0.95
    mean = symmetrize_agent(one_quadrant, symmetry, "equitune")
    assert rates(mean)[1] < 0.7  # the comparison has power
    every, _ = states()
    moves = agent_symmetry(fitted, symmetry)
    shown = torch.as_tensor(every.observations)
    assert equivariance_error(action_scores(fitted), moves.observation, moves.action, shown) < 1e-5


def test_lambda_has_to_know_what_the_agent_knows(one_quadrant: DQN) -> None:
    every, _ = states()
    anywhere = symmetrize_agent(
        one_quadrant, "grid-c4", "lambda_equitune", observations=torch.as_tensor(every.observations)
    )
    assert rates(anywhere)[1] < 0.8


def test_familiar_views_are_picked_by_novelty_and_not_by_the_largest_value(one_quadrant: DQN) -> None:
    novelty = symmetrize_agent(one_quadrant, "grid-c4", "equizero", {"proxy_loss": "novelty"})
    largest = symmetrize_agent(one_quadrant, "grid-c4", "equizero", {"proxy_loss": "max_value"})
    assert rates(novelty)[1] >= 0.9
    assert rates(largest)[1] < 0.75


def test_the_fit_reports_and_leaves_the_backbone(one_quadrant: DQN) -> None:
    fitted = symmetrize_agent(one_quadrant, "grid-c4", "lambda_equitune", fit=LambdaFit(steps=1))
    before = {key: value.clone() for key, value in fitted.policy.state_dict().items() if "aggregator" not in key}
    report = fit_lambda(fitted, replay_observations(one_quadrant), LambdaFit(steps=300))
    assert report.loss < 0.5 * report.initial_loss
    assert 50 <= report.steps <= 300
    assert f"held-out loss {report.initial_loss:.4f} -> {report.loss:.4f}" in str(report)
    assert all(torch.equal(value, fitted.policy.state_dict()[key]) for key, value in before.items())
    online, target = (network.aggregator.state_dict() for network in (fitted.q_net, fitted.q_net_target))
    assert all(torch.equal(online[key], target[key]) for key in online)
    again = symmetrize_agent(one_quadrant, "grid-c4", "lambda_equitune", fit=LambdaFit(steps=1))
    assert fit_lambda(again, replay_observations(one_quadrant), LambdaFit(steps=300)).loss == report.loss  # seeded
