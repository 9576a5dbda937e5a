"""The mirror loss of plain agents: what it adds, that it works for every family, and where it is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from continuous import SWAPPED, TwoArms, make
from sb3_contrib import RecurrentPPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from equirl.agents import MirrorLossCallback, SymmetricVecNormalize
from equirl.agents.scores import action_scores
from equirl.testing import equivariance_error

STATES = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))


def _error(agent: Any) -> float:
    return equivariance_error(action_scores(agent), SWAPPED.observation, SWAPPED.action, STATES)


@pytest.mark.parametrize("name", ["sac", "td3", "ppo"])
def test_it_makes_a_plain_actor_more_symmetric(name: str) -> None:
    errors = []
    for coefficient in (0.0, 10.0):
        if name == "ppo":
            agent: Any = PPO("MlpPolicy", TwoArms(), n_steps=128, device="cpu", seed=0, learning_rate=3e-3)
        else:
            agent = make(name, None, learning_rate=3e-3)
        agent.learn({"ppo": 512, "sac": 250, "td3": 160}[name], callback=MirrorLossCallback(SWAPPED, coefficient))
        errors.append(_error(agent))
    assert errors[1] < 0.6 * errors[0]
    assert errors[1] > 1e-5  # and never exact


def test_its_gradient_is_added_to_that_of_the_agent_and_nothing_else_changes() -> None:
    plain = make("sac", None).learn(60)
    none = make("sac", None).learn(60, callback=MirrorLossCallback(SWAPPED, 0.0))
    for ours, theirs in zip(plain.policy.parameters(), none.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_the_loss_is_that_of_its_formula() -> None:
    agent = make("td3", None)
    callback = MirrorLossCallback(SWAPPED)
    callback.init_callback(agent)
    agent.learn(31)
    callback.on_training_start({}, {})
    with torch.no_grad():
        moved = agent.actor(SWAPPED.observation.transform(1, STATES))
        expected = (moved - SWAPPED.action.transform(1, agent.actor(STATES))).square().mean()  # type: ignore[operator]
        assert torch.allclose(callback.loss(STATES), expected)


def test_discrete_values_and_normalised_observations_are_taken() -> None:
    agent = DQN("MlpPolicy", "CartPole-v1", learning_starts=20, buffer_size=200, device="cpu", seed=0)
    agent.learn(80, callback=MirrorLossCallback("cartpole-z2"))
    environments = SymmetricVecNormalize(DummyVecEnv([TwoArms]), SWAPPED)
    normalised = PPO("MlpPolicy", environments, n_steps=32, device="cpu")
    normalised.learn(64, callback=MirrorLossCallback(SWAPPED))
    assert np.isfinite(_error(normalised))


def test_equivariant_agents_and_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="is equivariant: its mirror loss is 0"):
        make("sac", "equitune").learn(10, callback=MirrorLossCallback(SWAPPED))
    with pytest.raises(TypeError, match="a recurrent agent acts on its history"):
        RecurrentPPO("MlpLstmPolicy", "CartPole-v1", device="cpu").learn(1, callback=MirrorLossCallback("cartpole-z2"))
    with pytest.raises(ValueError, match="coefficient"):
        MirrorLossCallback(SWAPPED, -1)
    with pytest.raises(ValueError, match="batch_size must be a whole number from 1; got 0"):
        MirrorLossCallback(SWAPPED, batch_size=0)
    with pytest.raises(ValueError, match="'two-legs' is unknown"):
        make("sac", None).learn(10, callback=MirrorLossCallback("two-legs"))
