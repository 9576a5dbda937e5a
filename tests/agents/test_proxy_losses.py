import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from small_worlds import KINDS, World, mirror, policy_name
from specialist import specialist
from stable_baselines3 import DQN, PPO
from torch import nn

from equirl import cyclic_group, trivial_representation
from equirl.agents import (
    BellmanResidual,
    Disagreement,
    EquivariantActorCriticPolicy,
    Novelty,
    agent_proxy_loss,
    replay_observations,
    symmetrize_agent,
)
from equirl.orbit import Orbit
from equirl.proxy_losses import entropy


def _orbit(inputs: torch.Tensor, outputs: torch.Tensor) -> Orbit:
    representation = trivial_representation(cyclic_group(outputs.shape[1]), outputs.shape[2:])
    return Orbit(inputs, outputs, representation)


def test_novelty_is_the_distance_to_the_nearest_visited_state() -> None:
    visited = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 0.0]])
    novelty = Novelty(visited)
    views = torch.tensor([[[0.0, 0.0], [4.0, 2.0], [1.0, 0.0]]])
    distances = novelty(_orbit(views, torch.zeros(1, 3, 2)))
    spread = torch.tensor([0.0, 4.0]).std()
    assert torch.allclose(
        distances, torch.tensor([[0.0, 2.0, 1.0 / spread]])
    )  # a coordinate that never varied counts as it is
    marks = Novelty(torch.tensor([[0, 1], [1, 0]], dtype=torch.uint8))
    assert torch.allclose(marks(_orbit(torch.tensor([[[1, 1]]]), torch.zeros(1, 1, 2))), torch.tensor([[1.0]]))


def test_novelty_keeps_a_limited_number_of_different_states() -> None:
    novelty = Novelty(torch.arange(100.0)[:, None].repeat(3, 1), n_states=10)
    assert novelty._visited.shape == (10, 1)


def test_the_bellman_residual_is_zero_for_the_true_values() -> None:
    # Two states: 0 goes to the end with reward 1 by action 1; action 0 stays.
    def q_function(rows: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[0.9, 1.0]]).expand(len(rows), 2)

    state = torch.zeros(2, 1)
    residual = BellmanResidual(
        q_function, state, torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), state, torch.tensor([0.0, 1.0]), gamma=0.9
    )
    right, wrong = torch.tensor([[[0.9, 1.0]]]), torch.tensor([[[0.5, 0.2]]])
    assert torch.allclose(residual(_orbit(torch.zeros(1, 1, 1), right)), torch.zeros(1, 1), atol=1e-6)
    assert torch.allclose(residual(_orbit(torch.zeros(1, 1, 1), wrong)), torch.tensor([[(0.4 + 0.8) / 2]]), atol=1e-6)


def test_disagreement_is_the_mean_difference_from_the_others() -> None:
    one, two = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    disagreement = Disagreement([one, two])
    views = torch.randn(4, 5, 3)
    outputs = torch.randn(4, 5, 2)
    with torch.no_grad():
        expected = ((one(views) - outputs).abs().mean(2) + (two(views) - outputs).abs().mean(2)) / 2
        assert torch.allclose(disagreement(_orbit(views, outputs)), expected, atol=1e-6)
        one.weight.zero_()  # a later change of the networks does not reach the copies
        assert torch.allclose(disagreement(_orbit(views, outputs)), expected, atol=1e-6)
    with pytest.raises(ValueError, match="at least one other network"):
        Disagreement([])


@pytest.mark.parametrize("name", ["novelty", "bellman_residual", "target_disagreement", "entropy"])
def test_agents_keep_their_proxy_loss_in_the_file(name: str, tmp_path: Path) -> None:
    model = specialist()
    symmetrized = symmetrize_agent(model, "grid-d4", "equizero", {"proxy_loss": name})
    symmetrized.save(tmp_path / "agent.zip")
    loaded = DQN.load(tmp_path / "agent.zip", device="cpu")
    observations = torch.as_tensor(model.replay_buffer.observations[:50, 0])
    with torch.no_grad():
        assert torch.equal(symmetrized.q_net(observations), loaded.q_net(observations))
        turned = symmetrized.q_net.input_rep.transform("rs", observations)
        expected = symmetrized.q_net.output_rep.transform("rs", symmetrized.q_net(observations))
        assert torch.allclose(symmetrized.q_net(turned), expected, atol=1e-5)
    assert set(loaded.q_net.state_dict()) == set(model.q_net.state_dict())  # no weights but the agent's own


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["novelty", "bellman_residual", "target_disagreement"])
def test_all_kinds_of_observations_are_judged(kind: str, name: str, tmp_path: Path) -> None:
    settings = {"buffer_size": 100, "learning_starts": 10, "device": "cpu", "seed": 0}
    model = DQN(policy_name(kind), World(kind), policy_kwargs={"net_arch": [8]}, **settings).learn(60)
    symmetrized = symmetrize_agent(model, mirror(kind), "equizero", {"proxy_loss": name})
    states = replay_observations(model, 20)
    images = mirror(kind).observation.transform(1, states)
    with torch.no_grad():
        values = symmetrized.q_net(states)
        assert torch.allclose(symmetrized.q_net(images), values.flip(1), atol=1e-5)
        symmetrized.save(tmp_path / "agent.zip")
        assert torch.equal(DQN.load(tmp_path / "agent.zip", device="cpu").q_net(states), values)
        assert torch.equal(copy.deepcopy(symmetrized.q_net)(states), values)


def test_names_of_states_have_no_distance_but_equal_or_not() -> None:
    rows = torch.tensor([[0.0, 2.0], [4.0, 2.0]])
    novelty = Novelty(rows, labels=[False, True])  # a measured coordinate, and one of MultiDiscrete, say
    spread = rows[:, 0].std()
    views = torch.tensor([[[0.0, 2.0], [0.0, 9.0], [0.5, 3.0]]])
    expected = torch.tensor([[0.0, 1.0, float(((0.5 / spread) ** 2 + 1).sqrt())]])
    assert torch.allclose(novelty(_orbit(views, torch.zeros(1, 3, 2))), expected)
    model = DQN("MlpPolicy", World("discrete"), device="cpu", buffer_size=10)
    proxy = agent_proxy_loss("novelty", model, np.array([0, 0]))
    distances = proxy(_orbit(torch.tensor([[0, 1, 5]]), torch.zeros(1, 3, 2)))
    assert distances.tolist() == [[0.0, 1.0, 1.0]]  # 5 is no farther from 0 than 1 is


def test_arrays_are_taken_and_nonsense_is_refused() -> None:
    states = np.random.default_rng(0).normal(size=(6, 2))
    assert Novelty(states)._visited.shape == (6, 2)
    for n_states in (0, -1):
        with pytest.raises(ValueError, match=f"n_states must be a whole number from 1; got {n_states}"):
            Novelty(states, n_states=n_states)
    for wrong, message in (
        (states[:0], "visited states .* are needed; got none"),
        ([], "visited states .* are needed; got none"),
        (np.full((2, 2), np.nan), "visited states must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            Novelty(wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="labels must say one bool for each of 2 values; got 3"):
        Novelty(states, labels=[True, False, False])
    with pytest.raises(ValueError, match="Novelty knows states of 2 values, but the agent sees 3"):
        Novelty(states)(_orbit(torch.zeros(1, 2, 3), torch.zeros(1, 2, 2)))

    def residual(**changes: Any) -> BellmanResidual:
        given: dict[str, Any] = {
            "q_function": nn.Linear(2, 3),
            "observations": torch.as_tensor(states).float(),
            "actions": np.array([0, 1, 2, 0, 1, 2]),
            "rewards": np.zeros(6),
            "next_observations": torch.as_tensor(states).float(),
            "dones": np.zeros(6),
            "gamma": 0.9,
        }
        return BellmanResidual(**{**given, **changes})

    residual(actions=np.zeros((6, 1)))
    for changes, message in (
        ({"neighbors": 0}, "neighbors must be a whole number from 1; got 0"),
        ({"actions": np.full(6, 3)}, r"actions must be finite and in 0 \.\. 2; got 3"),
        ({"actions": np.full(6, -1)}, r"actions must be finite and in 0 \.\. 2; got -1"),
        ({"actions": np.full(6, 0.5)}, r"actions must be whole numbers; got 0\.5"),
        ({"rewards": np.full(6, np.nan)}, "rewards must be finite.*got nan"),
        ({"rewards": np.zeros(5)}, r"rewards must be one number for each of 6 observations; got \[5\]"),
        ({"dones": np.full(6, 2)}, r"dones must be finite and in 0 \.\. 1; got 2"),
        ({"gamma": float("nan")}, "gamma is a finite number.*got nan"),
        ({"gamma": 1.5}, r"gamma must be finite and in 0 \.\. 1; got 1\.5"),
        ({"next_observations": torch.zeros(5, 2)}, "6 observations, but 5 next ones"),
        ({"q_function": lambda rows: torch.full((len(rows), 3), torch.inf)}, "largest Q-values .* must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            residual(**changes)
    for wrong_networks in (nn.Sequential(nn.Linear(2, 3)), 5, [lambda rows: rows]):
        with pytest.raises(TypeError, match="disagreement takes"):
            Disagreement(wrong_networks)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"another network gives \[2, 3\] for 2 views, the agent \[2\] for each"):
        Disagreement([nn.Linear(2, 3)])(_orbit(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)))
    model = DQN("MlpPolicy", World("box"), device="cpu", buffer_size=10)
    with pytest.raises(ValueError, match=r"shape \[N, 2\]; got \[5, 3\]"):
        agent_proxy_loss("novelty", model, np.zeros((5, 3)))


def test_making_them_draws_no_global_random_numbers_and_leaves_modes() -> None:
    model = specialist()
    model.policy.train()
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    for name in ("novelty", "bellman_residual", "target_disagreement"):
        agent_proxy_loss(name, model)
    assert np.random.get_state()[1].tolist() == before[0]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(part.training for part in model.q_net.modules())


def test_files_from_before_labels_were_known_still_work() -> None:
    novelty = Novelty(np.eye(3))
    state = {name: value for name, value in novelty.__getstate__().items() if name != "_labels"}
    older = Novelty.__new__(Novelty)
    older.__dict__.update(state)
    assert torch.equal(older(_orbit(torch.eye(3)[None], torch.zeros(1, 3, 2))), torch.zeros(1, 3))


def test_mistakes_are_told() -> None:
    model = DQN("MlpPolicy", "CartPole-v1", device="cpu", buffer_size=10)
    with pytest.raises(ValueError, match=r"proxy loss 'noveltie' is unknown.*Did you mean 'novelty'"):
        agent_proxy_loss("noveltie", model)
    with pytest.raises(ValueError, match="'bellman_residual' needs a replay buffer"):
        agent_proxy_loss("bellman_residual", model)
    with pytest.raises(ValueError, match="has no replay buffer with states in it"):
        agent_proxy_loss("novelty", model)


def test_time_outs_are_no_ends_and_lean_buffers_will_do() -> None:
    settings = {"device": "cpu", "learning_starts": 10, "gamma": 0.5, "seed": 0}
    model = DQN("MlpPolicy", gym.make("equirl/GridWorld-v0", size=5, max_steps=2), **settings)
    model.learn(300)
    buffer = model.replay_buffer
    assert buffer is not None
    assert buffer.timeouts[: buffer.size()].mean() > 0.3
    residual = agent_proxy_loss("bellman_residual", model)
    assert isinstance(residual, BellmanResidual)
    bound = 0.5 * model.q_net(torch.as_tensor(buffer.next_observations[: buffer.size(), 0])).amax(1)
    # Only arrivals end; a time-out bootstraps, so hardly any target is exactly a reward.
    exact = (residual._targets == 0) | (residual._targets == 1)
    arrivals = float((buffer.dones - buffer.timeouts)[: buffer.size()].mean())
    assert bound.abs().max() > 0
    assert abs(float(exact.float().mean()) - arrivals) < 0.1
    lean = DQN(
        "MlpPolicy", gym.make("equirl/GridWorld-v0", size=5), optimize_memory_usage=True,
        replay_buffer_kwargs={"handle_timeout_termination": False}, **settings,
    )  # fmt: skip
    lean.learn(60)
    agent_proxy_loss("bellman_residual", lean)


@pytest.mark.parametrize("proxy_loss", ["entropy", "confidence", entropy])
def test_a_loss_that_is_the_same_for_all_views_is_refused(proxy_loss: Any) -> None:
    """For continuous actions a proxy loss gets the value of each view: one number, of which no entropy can be taken."""
    settings: dict[str, Any] = {"symmetry": "pendulum-z2", "method": "equizero"}
    chosen = {**settings, "method_kwargs": {"proxy_loss": proxy_loss}}
    with pytest.raises(ValueError, match=r"'(entropy|confidence)' is then the same for all views: take 'max_value'"):
        PPO(EquivariantActorCriticPolicy, "Pendulum-v1", policy_kwargs=chosen, device="cpu")
    agent: Any = PPO(EquivariantActorCriticPolicy, "Pendulum-v1", policy_kwargs=settings, device="cpu")
    weights = agent.policy.orbit_weights(torch.randn(20, 3))
    assert torch.equal(weights.max(dim=1).values, torch.ones(20))
