"""Actors and critics of continuous actions: exact equivariance, checkpoints, proxy losses, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from continuous import ALGORITHMS, SWAPPED, TwoArms, actor_of, make, values_of
from stable_baselines3 import PPO, SAC

from equirl import MDPSymmetry
from equirl.agents import METHODS, EquivariantActorCriticPolicy, EquivariantSACPolicy, load_agent
from equirl.agents.critic_proxy_losses import ACTOR_PROXY_LOSSES
from equirl.agents.orbit_network import orbit_networks
from equirl.envs import mujoco_mirror

STATES = torch.randn(40, 5, generator=torch.Generator().manual_seed(1))
ACTIONS = torch.rand(40, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
TOLERANCE = 1e-5


def _errors(agent: Any, symmetry: MDPSymmetry, states: torch.Tensor, actions: torch.Tensor) -> float:
    """Return the largest error of actor and critics over states and group."""
    agent.policy.set_training_mode(False)
    found = []
    here = actor_of(agent, states)
    values = values_of(agent, states, actions)
    for g in range(symmetry.group.order):
        moved: Any = symmetry.observation.transform(g, states)
        there = actor_of(agent, moved)
        found.append((symmetry.action.transform(g, here[0]) - there[0]).abs().max())
        if len(here) == 2:  # a deviation moves as a size does
            carried = here[1][:, symmetry.action.index[g]]
            found.append((carried - there[1]).abs().max())
        found.append((values - values_of(agent, moved, symmetry.action.transform(g, actions))).abs().max())
    return float(torch.stack(found).max())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ALGORITHMS)
def test_actor_and_critics_are_equivariant_before_during_and_after_training(name: str, method: str) -> None:
    agent = make(name, method)
    before = values_of(agent, STATES, ACTIONS)
    assert _errors(agent, SWAPPED, STATES, ACTIONS) < TOLERANCE
    for _ in range(2):
        agent.learn(40, reset_num_timesteps=False)
        assert _errors(agent, SWAPPED, STATES, ACTIONS) < TOLERANCE
    assert (values_of(agent, STATES, ACTIONS) - before).abs().max() > 1e-3  # it did train
    assert values_of(agent, STATES, ACTIONS).std() > 1e-4  # and is no constant
    assert actor_of(agent, STATES)[0].std() > 1e-5


def test_the_measure_sees_a_plain_agent() -> None:
    assert _errors(make("sac", None), SWAPPED, STATES, ACTIONS) > 1e-2


@pytest.mark.parametrize("method", METHODS)
def test_drawn_actions_have_the_same_probability_in_every_orientation(method: str) -> None:
    moved: Any = SWAPPED.observation.transform(1, STATES)
    agent = make("sac", method)
    distribution = agent.policy.actor.action_dist
    with torch.no_grad():
        mean, log_std, _ = agent.policy.actor.get_action_dist_params(STATES)
        here = distribution.proba_distribution(mean, log_std).log_prob(0.9 * ACTIONS)
        mean, log_std, _ = agent.policy.actor.get_action_dist_params(moved)
        there = distribution.proba_distribution(mean, log_std).log_prob(0.9 * SWAPPED.action.transform(1, ACTIONS))
    assert torch.allclose(here, there, atol=TOLERANCE)
    agent = PPO(EquivariantActorCriticPolicy, TwoArms(), n_steps=64, device="cpu", seed=0, policy_kwargs=dict(
        symmetry=SWAPPED, method=method, net_arch=[16]))  # fmt: skip
    agent.learn(128)
    with torch.no_grad():
        agent.policy.log_std.copy_(torch.tensor([0.1, -0.4, 0.3]))  # numbers that change places share their mean
        values, here, _ = agent.policy.evaluate_actions(STATES, ACTIONS)
        values_there, there, _ = agent.policy.evaluate_actions(moved, SWAPPED.action.transform(1, ACTIONS))
    assert torch.allclose(here, there, atol=TOLERANCE)
    assert torch.allclose(values, values_there, atol=TOLERANCE)
    assert torch.allclose(agent.policy.symmetric_log_std(), torch.tensor([-0.15, -0.15, 0.3]))


@pytest.mark.parametrize("robot", ["Reacher-v5", "Swimmer-v5", "InvertedDoublePendulum-v5", "Ant-v5", "Walker2d-v5"])
def test_robots_are_equivariant_under_their_mirrors_before_and_after_training(robot: str) -> None:
    pytest.importorskip("mujoco")
    environment = gym.make(robot)
    mirror = mujoco_mirror(environment)
    states = torch.stack([torch.as_tensor(environment.reset(seed=k)[0]).float() for k in range(12)])
    actions = torch.rand(12, mirror.n_actions) * 2 - 1
    for method in METHODS:
        own = {"symmetry": mirror, "method": method, "net_arch": [32, 32]}
        agent = SAC(EquivariantSACPolicy, environment, buffer_size=100, learning_starts=20, batch_size=16, device="cpu",
                    policy_kwargs=own)  # fmt: skip
        assert _errors(agent, mirror, states, actions) < TOLERANCE
        agent.learn(40)
        assert _errors(agent, mirror, states, actions) < TOLERANCE


@pytest.mark.parametrize("method", METHODS)
def test_the_first_critic_alone_is_the_first_of_all(method: str) -> None:
    for settings in ({}, {"reads": "features"} if method == "lambda_equitune" else {}):
        critic = make("td3", method, policy_kwargs={"method_kwargs": settings}).policy.critic
        with torch.no_grad():
            assert torch.allclose(critic.q1_forward(STATES, ACTIONS), critic(STATES, ACTIONS)[0], atol=1e-6)


def test_the_canonical_choice_of_a_state_does_not_hang_on_the_action() -> None:
    critic = make("sac", "canonical").policy.critic
    with torch.no_grad():
        chosen = [critic.aggregator.choose(critic._observations({"observation": STATES, "action": a})).elements
                  for a in (ACTIONS, -ACTIONS, 0.1 * ACTIONS)]  # fmt: skip
        on_the_mirror = torch.tensor([[0.3, 0.3, 0.2, -0.2, 0.0]]).repeat(2, 1)
        two = torch.tensor([[0.5, -0.5, 0.1], [-0.5, 0.5, -0.1]])
        values = values_of(make("sac", "canonical"), on_the_mirror, two)
    assert torch.equal(chosen[0], chosen[1])
    assert torch.equal(chosen[0], chosen[2])
    assert len(set(chosen[0].tolist())) == 2
    assert torch.allclose(values[0], values[1], atol=1e-6)  # a state that is its own image: actions tie-break


@pytest.mark.parametrize("name", ALGORITHMS)
def test_saved_agents_open_and_act_as_before(name: str, tmp_path: Path) -> None:
    agent = make(name, "lambda_equitune")
    agent.learn(40)
    agent.save(tmp_path / "agent")
    again = load_agent(tmp_path / "agent.zip")
    assert type(again) is type(agent)
    observations = STATES.numpy()
    assert np.array_equal(
        agent.predict(observations, deterministic=True)[0], again.predict(observations, deterministic=True)[0]
    )
    assert _errors(again, SWAPPED, STATES, ACTIONS) < TOLERANCE
    again.set_env(TwoArms())
    again.learn(20, reset_num_timesteps=False)


@pytest.mark.parametrize("proxy", [*ACTOR_PROXY_LOSSES, "callable"])
def test_equizero_takes_every_proxy_loss_of_actors(proxy: str) -> None:
    given: Any = (lambda orbit: orbit.outputs.square().sum(dim=2)) if proxy == "callable" else proxy
    agent = make("sac", "equizero", policy_kwargs={"method_kwargs": {"proxy_loss": given}})
    agent.learn(40)
    assert _errors(agent, SWAPPED, STATES, ACTIONS) < TOLERANCE
    weights = agent.policy.actor.orbit_weights(STATES)
    assert ((weights == 0) | (weights == 1) | (weights == 0.5)).all()


def test_the_critics_choose_the_view_that_they_value_most() -> None:
    agent = make("td3", "equizero", policy_kwargs={"method_kwargs": {"proxy_loss": "critic_value"}})
    with torch.no_grad():
        orbit = agent.policy.actor.evaluate_orbit(STATES)
        views: Any = orbit.inputs
        values = agent.policy.critic.plain_values(views.flatten(0, 1), orbit.outputs.flatten(0, 1)).amin(dim=1)
        assert torch.equal(agent.policy.actor.orbit_weights(STATES).argmax(dim=1), values.view(-1, 2).argmax(dim=1))


def _gradients_of_critics(agent: Any) -> list[list[Any]]:
    """Train for a step and return the gradients of the critics' weights before their own step and the actor's."""
    weights, seen = list(agent.critic.parameters()), []

    def note(*_: Any) -> None:
        seen.append([None if weight.grad is None else weight.grad.clone() for weight in weights])

    for optimizer in (agent.critic.optimizer, agent.actor.optimizer):
        optimizer.register_step_pre_hook(note)
    agent.learn(34)
    return seen


@pytest.mark.parametrize("name", ["sac", "td3", "tqc", "crossq"])
def test_the_loss_of_the_actor_computes_no_gradient_of_the_critics_weights(name: str) -> None:
    """SB3 computes it and sets it to zero; see ``weights_held``. Everywhere else the weights have their gradients."""
    settings: dict[str, Any] = {"policy_delay": 1} if name in ("td3", "crossq") else {}
    for method in ("equitune", None):
        agent = make(name, method, **settings)
        own, after = _gradients_of_critics(agent)[-2:]
        unchanged = all(torch.equal(a, b) for a, b in zip(own, after, strict=True))
        assert unchanged is (method is not None)
    critic = make(name, "equitune").critic
    actions = torch.zeros(4, 3, requires_grad=True)
    values = (critic(torch.randn(4, 5), actions), getattr(critic, "q1_forward", critic)(torch.randn(4, 5), actions))
    for each in values:
        critic.zero_grad()
        (sum(each) if isinstance(each, tuple) else each).sum().backward()  # type: ignore[union-attr]
        assert all(weight.grad is not None for weight in critic.q_networks[0].parameters())
        assert all(weight.requires_grad for weight in critic.parameters())


def test_mistakes_are_refused_where_they_are_made() -> None:
    with pytest.raises(ValueError, match="proxy loss of continuous actions 'entropy' is unknown"):
        make("sac", "equizero", use_sde=True, policy_kwargs={"method_kwargs": {"proxy_loss": "entropy"}})
    with pytest.raises(ValueError, match="proxy loss of continuous actions 'max_value' is unknown"):
        make("sac", "equizero", policy_kwargs={"method_kwargs": {"proxy_loss": "max_value"}})
    with pytest.raises(ValueError, match="proxy loss of continuous actions 'entropy' is unknown"):
        make("td3", "equizero", policy_kwargs={"method_kwargs": {"proxy_loss": "entropy"}})
    with pytest.raises(ValueError, match="compares critics, and this policy has one"):
        make("ddpg", "equizero", policy_kwargs={"method_kwargs": {"proxy_loss": "critic_disagreement"}})
    with pytest.raises(TypeError, match=r"symmetry 'cartpole-z2' moves the actions of a Discrete space; got Box"):
        make("sac", "equitune", policy_kwargs={"symmetry": "cartpole-z2"})
    with pytest.raises(TypeError, match="EquivariantSACPolicy acts in Box spaces; got Discrete"):
        EquivariantSACPolicy(TwoArms().observation_space, gym.spaces.Discrete(3), lambda _: 0.0, symmetry=SWAPPED)  # type: ignore[arg-type]
    agent = make("sac", "equitune")
    with pytest.raises(ValueError, match="holds nan"):
        agent.policy.actor(torch.full((1, 5), torch.nan))


def test_networks_of_an_agent_are_listed_with_the_acting_one_first() -> None:
    agent = make("td3", "equitune")
    policy = agent.policy
    assert orbit_networks(agent) == [policy.actor, policy.critic, policy.actor_target, policy.critic_target]
