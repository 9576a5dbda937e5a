"""Trained agents with continuous actions made equivariant: same weights, exact symmetry, the returns of a wrapper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from continuous import ALGORITHMS, SWAPPED, TwoArms, make
from documents import shorten
from parity import largest_gap
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from equirl import MDPSymmetry, cyclic_group, trivial_representation
from equirl.agents import LambdaFit, load_agent, replay_observations, symmetrize_agent
from equirl.agents.audit import audit_agent
from equirl.agents.cli import main
from equirl.agents.scores import action_scores
from equirl.testing import equivariance_error

METHODS = ("equitune", "lambda_equitune", "equizero", "canonical")


@pytest.fixture(scope="module")
def swinger() -> SAC:
    """A SAC agent that has begun to learn Pendulum."""
    agent = SAC("MlpPolicy", "Pendulum-v1", learning_starts=50, buffer_size=1_000, batch_size=32, device="cpu", seed=0,
                policy_kwargs={"net_arch": [32, 32]}, learning_rate=3e-3)  # fmt: skip
    return agent.learn(400)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_becomes_equivariant(name: str, method: str) -> None:
    plain = make(name, None)
    plain.learn(60)
    states = torch.as_tensor(plain.replay_buffer.observations[:60, 0])
    fit = LambdaFit(steps=20, batch_size=32)
    symmetrized = symmetrize_agent(plain, SWAPPED, method, fit=fit)
    error = equivariance_error(action_scores(symmetrized), SWAPPED.observation, SWAPPED.action, states)
    assert error < 1e-5 < equivariance_error(action_scores(plain), SWAPPED.observation, SWAPPED.action, states)
    for key, value in plain.policy.state_dict().items():
        assert torch.equal(symmetrized.policy.state_dict()[key], value)
    assert _entropy(symmetrized) == _entropy(plain)
    before = _entropy(plain)
    symmetrized.learn(40, reset_num_timesteps=False)
    assert _entropy(plain) == before  # nothing of it is shared


def _entropy(agent: Any) -> Any:
    """Return the logarithm of an agent's entropy coefficient and the state of its optimizer, as text."""
    optimizer = getattr(agent, "ent_coef_optimizer", None)
    return None if optimizer is None else (float(agent.log_ent_coef), str(optimizer.state_dict()))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_with_one_element_it_trains_on_as_the_plain_agent_does(name: str) -> None:
    one = cyclic_group(1)
    trivial = MDPSymmetry("trivial", trivial_representation(one, (5,)), trivial_representation(one, (3,)))
    ends = []
    for symmetrized in (False, True):
        agent = make(name, None)
        agent.learn(60)
        before = _entropy(agent)
        if symmetrized:
            agent = symmetrize_agent(agent, trivial)
        torch.manual_seed(1)
        np.random.seed(1)
        agent.action_space.seed(1)
        agent.learn(60, reset_num_timesteps=False)
        assert _entropy(agent) != before or before is None
        ends.append(
            agent.policy.state_dict() | {"log_ent_coef": getattr(agent, "log_ent_coef", None) or torch.zeros(1)}
        )
    assert largest_gap(*ends) < 1e-6


def test_its_returns_are_those_of_a_wrapper_written_by_hand(swinger: SAC) -> None:
    signs = np.array([1, -1, -1], dtype=np.float32)

    class Wrapper:
        """Group averaging by hand: half the mean of a state, half the opposite of that of its mirror image."""

        def predict(self, observation: Any, **_: Any) -> tuple[Any, None]:
            with torch.no_grad():
                means = [swinger.actor.get_action_dist_params(torch.as_tensor(o))[0].numpy()
                         for o in (observation, observation * signs)]  # fmt: skip
            return 2 * np.tanh((means[0] - means[1]) / 2), None

    symmetrized = symmetrize_agent(swinger, "pendulum-z2", "equitune")
    returns = []
    for agent in (symmetrized, Wrapper()):
        environments = make_vec_env("Pendulum-v1", 1, seed=7)
        returns.append(evaluate_policy(agent, environments, 3, return_episode_rewards=True)[0])  # type: ignore[arg-type]
    assert np.allclose(*returns, rtol=1e-4)
    plain = evaluate_policy(swinger, make_vec_env("Pendulum-v1", 1, seed=7), 3, return_episode_rewards=True)[0]
    assert not np.allclose(returns[0], plain, rtol=1e-3)


def test_fitted_weights_lead_actor_and_critics_back_to_the_plain_agent(swinger: SAC) -> None:
    states: Any = replay_observations(swinger, 400)
    states = states[states[:, 1] > 0.1]  # one side alone: the other side's views are the unfamiliar ones
    symmetrized = symmetrize_agent(
        swinger, "pendulum-z2", "lambda_equitune", {"hidden": [16]}, observations=states, fit=LambdaFit(steps=300)
    )
    evened = symmetrize_agent(swinger, "pendulum-z2", "equitune")
    actions = torch.as_tensor(swinger.predict(states.numpy(), deterministic=True)[0] / 2)
    gaps = []
    for agent in (symmetrized, evened):
        with torch.no_grad():
            actor = (action_scores(agent)(states) - action_scores(swinger)(states)).abs().mean()
            critic = (agent.critic(states, actions)[0] - swinger.critic(states, actions)[0]).abs().mean()
        gaps.append((float(actor), float(critic)))
    assert gaps[0][0] < 0.3 * gaps[1][0]
    assert gaps[0][1] < 0.3 * gaps[1][1]


def test_an_audit_and_the_commands_take_it(
    swinger: SAC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch)
    rows = audit_agent(swinger, make_vec_env("Pendulum-v1", 2, seed=0), "pendulum-z2", n_episodes=2, n_states=60)
    plain, *exact = rows
    assert plain.equivariance_error > 1e-2
    assert plain.disagreement_share > 0.2
    assert all(row.equivariance_error < 1e-5 and row.disagreement_share == 0 for row in exact)
    swinger.save("plain.zip")
    swinger.save_replay_buffer("buffer.pkl")
    command = "symmetrize plain.zip --env Pendulum-v1 --symmetry pendulum-z2 --method canonical -o canonical.zip"
    assert main(command.split()) == 0, capsys.readouterr()
    agent = load_agent("canonical.zip", gym.make("Pendulum-v1"))
    assert isinstance(agent, SAC)
    assert type(agent.policy).__name__ == "EquivariantSACPolicy"


def test_worlds_that_swap_numbers_are_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)
    agent = make("td3", None)
    agent.learn(40)
    rows = audit_agent(agent, make_vec_env(TwoArms, 1, seed=0), SWAPPED, n_episodes=1, n_states=30)
    assert [row.disagreement_share for row in rows[1:]] == [0, 0, 0, 0]
