"""Agents that are equivariant where the world is."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC, TRPO, RecurrentPPO
from stable_baselines3 import DQN, PPO, SAC, TD3

from equirl import MDPSymmetry, cyclic_group, permutation_representation, trivial_representation
from equirl.agents import EquivariantDQNPolicy, load_agent, make_vectorized_env, symmetrize_agent
from equirl.agents.comparison import make_agent
from equirl.agents.export import export_program
from equirl.agents.gate_evidence import Evidence, RecurringEvidence, Steps, some_steps
from equirl.agents.gate_measures import gate_logits, gate_openings, roc_area
from equirl.agents.gate_training import GateTraining, gate_callbacks, gate_of
from equirl.agents.model_evidence import ModelEvidence
from equirl.agents.orbit_network import orbit_networks
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.scores import action_scores
from equirl.envs.broken_grid import Breaks, broken_moves, next_cells
from equirl.envs.gridworld_states import GridWorldStates
from equirl.symmetry import build_symmetry
from equirl.testing import equivariance_error

GRID = "equirl/GridWorld-v0"
WORLDS: dict[str, tuple[Any, str, str, dict[str, Any]]] = {
    "dqn": (DQN, GRID, "grid-d4", {"learning_starts": 20}),
    "qrdqn": (QRDQN, GRID, "grid-d4", {"learning_starts": 20}),
    "ppo": (PPO, "CartPole-v1", "cartpole-z2", {"n_steps": 64, "n_epochs": 2}),
    "ppo, box": (PPO, "Pendulum-v1", "pendulum-z2", {"n_steps": 64, "n_epochs": 2}),
    "sac": (SAC, "Pendulum-v1", "pendulum-z2", {"learning_starts": 20}),
    "td3": (TD3, "Pendulum-v1", "pendulum-z2", {"learning_starts": 20}),
    "tqc": (TQC, "Pendulum-v1", "pendulum-z2", {"learning_starts": 20}),
}


def agent(world: str, method: str = "partial", **settings: Any) -> Any:
    kind, environment, symmetry, more = WORLDS[world]
    policy = POLICY_CLASSES[world.partition(",")[0]]
    arguments = {"symmetry": symmetry, "method": method, "method_kwargs": settings, "net_arch": [16]}
    return kind(policy, environment, policy_kwargs=arguments, seed=0, **more)


def error_of(model: Any) -> float:
    network = orbit_networks(model)[0]
    states = torch.as_tensor(np.array([model.observation_space.sample() for _ in range(40)])).float()
    return equivariance_error(action_scores(model), network.input_rep, network.symmetry.action, states)


@pytest.mark.parametrize(
    ("world", "exact"),
    [*((world, "equitune") for world in WORLDS), ("dqn", "canonical"), ("ppo", "canonical"), ("sac", "canonical")],
)
def test_it_begins_exact_is_exact_where_shut_and_learns_what_is_not(world: str, exact: str, tmp_path: Path) -> None:
    model = agent(world, exact=exact)
    assert error_of(model) < 1e-5
    model.learn(150, callback=GateTraining(every=50))
    networks = [each for each in orbit_networks(model) if each.relaxation is not None]
    assert len(networks) == len(orbit_networks(model))
    for network in networks:
        torch.nn.init.normal_(network.relaxation.free[-1].weight)
        torch.nn.init.constant_(gate_of(network).network[-1].bias, -80.0)
        torch.nn.init.zeros_(gate_of(network).network[-1].weight)
    assert error_of(model) < 1e-5
    for network in networks:
        torch.nn.init.constant_(gate_of(network).network[-1].bias, 80.0)
    assert error_of(model) > 1e-3
    model.save(tmp_path / "agent.zip")
    again = load_agent(tmp_path / "agent.zip")
    observation = model.observation_space.sample()
    assert np.array_equal(
        model.predict(observation, deterministic=True)[0], again.predict(observation, deterministic=True)[0]
    )


@pytest.mark.parametrize("world", ["dqn", "qrdqn", "ppo", "sac"])
@pytest.mark.parametrize("method", ["partial_weights", "penalty"])
def test_the_other_relaxations_learn(world: str, method: str) -> None:
    model = agent(world, method)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(150)
    after = list(model.policy.parameters())
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert not orbit_networks(model)[0].exact


def grid_agent(share: float, method: str, seed: int = 0, **settings: Any) -> Any:
    environments = make_vectorized_env(GRID, 16, seed, {"size": 5, "broken_cells": share, "broken_seed": seed})
    own = {"learning_rate": 2e-3, "batch_size": 64, "train_freq": 2, "gradient_steps": 2, "learning_starts": 200}
    own["target_update_interval"] = 500
    how = {"method": method, "symmetry": "grid-d4", "method_kwargs": settings}
    return make_agent("dqn", environments, own | {"exploration_fraction": 0.3}, seed=seed, device="cpu", **how)


def test_in_a_symmetric_world_it_is_the_exact_agent_to_the_last_bit() -> None:
    states = GridWorldStates(5).observations
    agents = []
    for method in ("equitune", "partial"):  # one after the other: they draw from the same random numbers
        model = grid_agent(0.0, method)
        agents.append(model.learn(3_000, callback=gate_callbacks(model)))
    exact, partial = agents
    openings = gate_openings(partial, states)
    assert openings is not None
    assert openings.max() == 0
    ours, theirs = (action_scores(model)(torch.as_tensor(states).float()) for model in (partial, exact))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("gate", ["recorded", "predicted"])
def test_the_gate_opens_where_the_world_is_broken(gate: str) -> None:
    model = grid_agent(0.1, "partial", gate=gate)
    model.learn(8_000, callback=GateTraining(every=256, gradient_steps=4 if gate == "recorded" else 40))
    states, breaks = GridWorldStates(5), Breaks(0.1)
    truth = broken_moves(5, breaks, build_symmetry("grid-d4", (3, 5, 5), 4))[states.agents]
    openings = gate_openings(model, states.observations)
    assert openings is not None
    assert roc_area(gate_logits(model, states.observations), truth) > 0.9
    assert openings[truth].mean() > 0.2 > 0.05 > openings[~truth].mean()


def slippery(n: int, wind: float) -> Steps:
    """Transitions of a grid with chance in it."""
    environments = make_vectorized_env(GRID, 32, 0, {"size": 3, "slip": 0.3, "wind": wind, "max_steps": 8})
    random, rows = np.random.default_rng(0), []
    before: Any = environments.reset()
    for _ in range(n // 32):
        actions = random.integers(4, size=32)
        after, rewards, dones, infos = environments.step(actions)
        last = after.copy()
        for i in np.flatnonzero(dones):
            last[i] = infos[i]["terminal_observation"]
        ends = dones & ~np.array([bool(info.get("TimeLimit.truncated")) for info in infos])
        rows.append((before.copy(), np.eye(4)[actions], rewards.copy(), last, ends))
        before = after
    parts = [torch.as_tensor(np.concatenate(part)) for part in zip(*rows, strict=True)]
    return Steps(parts[0].float(), parts[1].float(), parts[2].float(), parts[3].float(), parts[4])


@pytest.mark.parametrize(("wind", "broken"), [(0.0, False), (0.5, True)])
def test_chance_is_no_failure_of_the_symmetry(wind: float, broken: bool) -> None:
    evidence = RecurringEvidence(build_symmetry("grid-d4", (3, 3, 3), 4))
    evidence.add(slippery(40_000, wind))
    examples = evidence.draw(2_000, np.random.default_rng(0))
    assert examples is not None
    share = float(examples.broken.mean())
    assert share > 0.3 if broken else share < 0.01


@pytest.mark.parametrize("kind", [RecurringEvidence, ModelEvidence])
def test_nothing_is_shown_before_there_is_enough(kind: type[Evidence]) -> None:
    evidence = kind(build_symmetry("cartpole-z2", (4,), 2))
    assert evidence.draw(8, np.random.default_rng(0)) is None
    x = torch.randn(50, 4)
    evidence.add(Steps(x, torch.eye(2)[torch.arange(50) % 2], torch.ones(50), x + 0.1, torch.zeros(50).bool()))
    assert evidence.draw(8, np.random.default_rng(0)) is None


def knower(breaks: Breaks) -> DQN:
    """Return a plain agent fitted to the true values of a broken grid, with every transition in its replay buffer."""
    env = gym.make(GRID, size=5, broken_cells=breaks.cells, broken_seed=breaks.seed)
    kwargs = {"net_arch": [128, 128]}
    model = DQN("MlpPolicy", env, policy_kwargs=kwargs, seed=0, device="cpu", gamma=0.9, buffer_size=2_400)
    states, target = GridWorldStates(5), next_cells(5, breaks)
    values = np.zeros((25, 25))  # of an agent's cell, for a goal
    for _ in range(60):
        arrived = np.eye(25)[target]  # [cell, move, goal]
        q = np.where(arrived, 1.0, 0.9 * values[target])
        values = q.max(axis=1) * (1 - np.eye(25))
    wanted = torch.as_tensor(q[states.agents, :, states.goals], dtype=torch.float32)
    seen = torch.as_tensor(states.observations)
    optimizer = torch.optim.Adam(model.q_net.parameters(), lr=3e-3)
    for _ in range(1_000):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model.q_net(seen), wanted).backward()
        optimizer.step()
    assert model.replay_buffer is not None
    for state, agent, goal in zip(states.observations, states.agents, states.goals, strict=True):
        for action in range(4):
            cell = int(target[agent, action])
            after = state.copy()
            after[0] = np.eye(25)[cell].reshape(5, 5)
            done = cell == goal
            model.replay_buffer.add(state, after, np.array([action]), np.array([float(done)]), np.array([done]), [{}])
    return model


def test_a_trained_agent_keeps_what_it_knew_of_the_broken_part() -> None:
    breaks = Breaks(0.3)
    model = knower(breaks)
    states = GridWorldStates(5, breaks=breaks)
    averaged, partial = (symmetrize_agent(model, "grid-d4", method) for method in ("equitune", "partial"))
    plain, mean, kept = (states.success_rate(each) for each in (model, averaged, partial))
    assert plain > 0.98
    assert mean < 0.92
    assert kept > 0.95
    truth = broken_moves(5, breaks, build_symmetry("grid-d4", (3, 5, 5), 4))[states.agents]
    assert roc_area(gate_logits(partial, states.observations), truth) > 0.98


def test_mistakes_are_met_where_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exact methods alone"):
        RecurrentPPO(
            POLICY_CLASSES["ppo_lstm"], "CartPole-v1", policy_kwargs={"symmetry": "cartpole-z2", "method": "partial"}
        )
    with pytest.raises(ValueError, match="exact method"):
        agent("dqn", exact="partial")
    with pytest.raises(ValueError, match="gate"):
        agent("dqn", gate="open")
    with pytest.raises(ValueError, match="hidden_layers"):
        agent("dqn", hidden_layers=[8])
    with pytest.raises(TypeError, match="Leave the callback out"):
        agent("dqn", "equitune").learn(10, callback=GateTraining())
    with pytest.raises(TypeError, match="Leave the callback out"):
        agent("dqn", gate="td").learn(10, callback=GateTraining())
    with pytest.raises(ValueError, match="replay buffer"):
        symmetrize_agent(PPO("MlpPolicy", "CartPole-v1"), "cartpole-z2", "partial")
    with pytest.raises(ValueError, match="partial_weights"):
        symmetrize_agent(DQN("MlpPolicy", "CartPole-v1"), "cartpole-z2", "partial_weights")


def test_it_is_exported_and_not_called_equivariant(tmp_path: Path) -> None:
    model = agent("dqn")
    model.learn(60, callback=GateTraining(every=30))
    report = export_program(model, tmp_path / "policy.pt2")
    assert report.check.equivariance_error is None
    assert "not equivariant: grid-d4, partial" in str(report)


def test_the_area_counts_pairs() -> None:
    scores, truth = [0.1, 0.4, 0.4, 0.9], [False, True, False, True]
    assert roc_area(scores, truth) == pytest.approx(3.5 / 4)
    assert np.isnan(roc_area(scores, [True] * 4))


def test_plain_and_exact_agents_need_no_gate_training() -> None:
    plain = DQN("MlpPolicy", gym.make("CartPole-v1"))
    assert gate_callbacks(plain) == []
    assert gate_openings(plain, np.zeros((1, 4), dtype=np.float32)) is None
    exact = DQN(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs={"symmetry": "cartpole-z2"})
    assert gate_callbacks(exact) == []
    assert gate_openings(exact, np.zeros((1, 4), dtype=np.float32)) is None


def test_a_callback_that_is_used_again_begins_at_the_new_run() -> None:
    model, callback = grid_agent(0.1, "partial"), GateTraining(every=256)
    for _ in range(2):
        model.learn(1_024, callback=callback)
        assert callback._last_round == 1_024
        assert len(callback._waiting) == 0


def test_what_a_model_learns_from_is_limited() -> None:
    evidence = ModelEvidence(build_symmetry("cartpole-z2", (4,), 2), capacity=2_000)
    x = torch.randn(1_000, 4)
    for k in range(5):
        action = torch.eye(2)[torch.arange(1_000) % 2]
        evidence.add(Steps(x + k, action, torch.ones(1_000), x + k + 0.1, torch.zeros(1_000).bool()))
        assert k == 0 or evidence.draw(8, np.random.default_rng(0)) is not None
    assert evidence._n == 2_000
    assert float(evidence._kept[0].observations.mean()) == pytest.approx(3.5, abs=0.1)  # the last ones


def test_an_actor_does_not_pay_for_its_critic() -> None:
    for method, settings in (("penalty", {"weight": 100.0}), ("partial", {"gate": "td", "price": 100.0})):
        model = agent("sac", method, **settings)
        states = torch.randn(8, 3)
        actions = torch.rand(8, 1, requires_grad=True)
        values = torch.cat(model.critic(states, actions), dim=1)
        (0 * values).sum().backward()
        assert float(actions.grad.abs().max()) == 0
        model.critic.zero_grad()
        (0 * torch.cat(model.critic(states, actions.detach()), dim=1)).sum().backward()
        assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in model.critic.parameters())


def test_more_mistakes_are_met_where_they_are_made() -> None:
    with pytest.raises(ValueError, match="price is that of a gate"):
        agent("dqn", price=0.5)
    with pytest.raises(TypeError, match="hidden lists the widths"):
        agent("dqn", hidden=32)
    for method, settings in (("penalty", {}), ("partial", {"gate": "td"})):
        kwargs = {"symmetry": "cartpole-z2", "method": method, "method_kwargs": settings}
        with pytest.raises(ValueError, match="TRPO climbs"):
            TRPO(POLICY_CLASSES["trpo"], "CartPole-v1", policy_kwargs=kwargs)
    model = DQN("MlpPolicy", "CartPole-v1", learning_starts=10, seed=0).learn(300)
    with pytest.raises(ValueError, match="gate='predicted'"):
        symmetrize_agent(model, "cartpole-z2", "partial")


def test_states_that_never_recur_are_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equirl.agents.gate_evidence._MANY", 100)
    kwargs = {"symmetry": "cartpole-z2", "method": "partial"}
    model = DQN(EquivariantDQNPolicy, "CartPole-v1", policy_kwargs=kwargs, seed=0)
    with pytest.warns(UserWarning, match="gate='predicted'") as told:
        model.learn(400, callback=GateTraining(every=64))
    assert len([each for each in told if "gate='predicted'" in str(each.message)]) == 1


def test_recorded_gates_learn_in_a_world_of_few_pairs() -> None:
    """Three states that turn into each other and two actions are two pairs up to symmetry; one is broken."""
    turns = cyclic_group(3)
    symmetry = MDPSymmetry("turned", permutation_representation(turns), trivial_representation(turns, (2,)))
    evidence = RecurringEvidence(symmetry)
    state, action = torch.eye(3).repeat_interleave(2, dim=0), torch.eye(2).repeat(3, 1)
    rewards = torch.tensor([0.0, 5.0, 0.0, 0.0, 0.0, 0.0])  # action 1 is worth something in state 0 alone
    ends = torch.ones(6, dtype=torch.bool)
    random = np.random.default_rng(0)
    evidence.add(some_steps(Steps(state, action, rewards, state, ends), torch.arange(2)))
    assert evidence.draw(10, random) is None  # no image was seen yet
    assert evidence.told.startswith("0 of 2 pairs")
    evidence.add(Steps(state, action, rewards, state, ends))
    drawn = evidence.draw(200, random)
    assert drawn is not None
    assert torch.equal(drawn.broken, drawn.actions[:, 1])
    assert 50 < int(drawn.broken.sum()) < 150
