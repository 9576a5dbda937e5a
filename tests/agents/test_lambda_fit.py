"""Fitting λ: any kind of states, no side effects, and settings that mean something."""

from typing import Any

import numpy as np
import pytest
import torch
from small_worlds import KINDS, World, mirror, policy_name
from stable_baselines3 import DQN, PPO

from equirl.agents import LambdaFit, fit_lambda, replay_observations, rollout_observations, symmetrize_agent

SHORT = LambdaFit(steps=20)


def _agent(kind: str = "box") -> DQN:
    settings: dict[str, Any] = {"buffer_size": 200, "learning_starts": 10, "device": "cpu", "seed": 0}
    return DQN(policy_name(kind), World(kind), policy_kwargs={"net_arch": [8]}, **settings).learn(60)


def _lambda(model: Any) -> list[torch.Tensor]:
    return [value.clone() for value in model.q_net.aggregator.state_dict().values()]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_fitted_on_all_kinds_of_observations(kind: str) -> None:
    agent = _agent(kind)
    symmetrized = symmetrize_agent(agent, mirror(kind), "lambda_equitune", fit=SHORT)  # its replay buffer's
    states = replay_observations(agent, 50)
    report = fit_lambda(symmetrized, states, SHORT)
    assert report.n_samples == 50
    arrays: Any = {key: part.numpy() for key, part in states.items()} if isinstance(states, dict) else states.numpy()
    assert fit_lambda(symmetrized, arrays, SHORT).initial_loss == pytest.approx(report.loss, rel=1e-3)


def test_equal_seeds_give_equal_fits_and_nothing_else_moves() -> None:
    agent = _agent()
    states = rollout_observations(agent, World("box"), 100)
    fitted = []
    for noise in (0, 1):
        symmetrized = symmetrize_agent(agent, mirror("box"), "lambda_equitune", fit=SHORT)
        torch.manual_seed(noise)
        np.random.seed(noise)
        symmetrized.policy.train()
        symmetrized.q_net.q_net[0].eval()  # a mode that a part has of its own
        before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
        modes = [part.training for part in symmetrized.policy.modules()]
        weights = symmetrized.q_net.q_net[0].weight.clone()
        with torch.no_grad():  # a caller's setting
            fit_lambda(symmetrized, states, SHORT)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
        assert [part.training for part in symmetrized.policy.modules()] == modes
        assert torch.equal(symmetrized.q_net.q_net[0].weight, weights)
        assert all(parameter.grad is None for parameter in symmetrized.policy.parameters())
        fitted.append(_lambda(symmetrized))
    assert all(torch.equal(one, other) for one, other in zip(*fitted, strict=True))


def test_outputs_that_are_no_numbers_are_named_and_lambda_stays() -> None:
    symmetrized = symmetrize_agent(_agent(), mirror("box"), "lambda_equitune", fit=SHORT)
    before = _lambda(symmetrized)
    symmetrized.policy.train()
    with torch.no_grad():
        symmetrized.q_net.q_net[2].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="held-out loss of λ is nan before the first step"):
        fit_lambda(symmetrized, np.zeros((20, 2), np.float32), SHORT)
    assert all(torch.equal(one, other) for one, other in zip(before, _lambda(symmetrized), strict=True))
    assert symmetrized.policy.training


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be a whole number from 1; got 0"),
        ({"steps": 2.5}, TypeError, r"steps must be a whole number from 1; got 2\.5"),
        ({"batch_size": -1}, ValueError, "batch_size must be a whole number from 1; got -1"),
        ({"patience": float("nan")}, TypeError, "patience must be a whole number from 1; got nan"),
        ({"seed": -1}, ValueError, "seed must be a whole number from 0; got -1"),
        ({"learning_rate": float("nan")}, ValueError, "learning_rate is a finite number above 0; got nan"),
        ({"learning_rate": float("inf")}, ValueError, "learning_rate is a finite number above 0; got inf"),
        ({"learning_rate": 0}, ValueError, "learning_rate is a finite number above 0; got 0"),
        ({"holdout": float("nan")}, ValueError, "holdout is a finite number above 0 and at most 1; got nan"),
        ({"holdout": 0}, ValueError, "holdout is a finite number above 0 and at most 1; got 0"),
        ({"holdout": 1}, ValueError, "holdout is a share below 1"),
        ({"objective": "copy"}, ValueError, "objective 'copy' is unknown; known: recognize, reproduce"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LambdaFit(**setting)


def test_mistakes_are_told() -> None:
    symmetrized = symmetrize_agent(_agent(), mirror("box"), "lambda_equitune", fit=SHORT)
    with pytest.raises(TypeError, match=r"settings must be a LambdaFit.*got \{'steps': 5\}"):
        fit_lambda(symmetrized, np.zeros((20, 2)), {"steps": 5})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \[N, 2\]; got \[20, 3\]"):
        fit_lambda(symmetrized, np.zeros((20, 3)))
    with pytest.raises(ValueError, match="λ is fitted on 9 states; at least 10 are needed"):
        fit_lambda(symmetrized, np.zeros((9, 2)))
    with pytest.raises(TypeError, match="is not equivariant"):
        fit_lambda(PPO("MlpPolicy", World("box"), device="cpu"), np.zeros((20, 2)))
