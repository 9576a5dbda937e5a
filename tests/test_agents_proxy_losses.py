from pathlib import Path

import gymnasium as gym
import pytest
import torch
from specialist import specialist
from stable_baselines3 import DQN

from equirl import Orbit, cyclic_group, trivial_representation
from equirl.agents import BellmanResidual, Disagreement, Novelty, agent_proxy_loss, symmetrize_agent


def _orbit(inputs: torch.Tensor, outputs: torch.Tensor) -> Orbit:
    representation = trivial_representation(cyclic_group(outputs.shape[1]), outputs.shape[2:])
    return Orbit(inputs, outputs, outputs, representation)


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
        turned = symmetrized.q_net.input_rep.apply("rs", observations)
        expected = symmetrized.q_net.output_rep.apply("rs", symmetrized.q_net(observations))
        assert torch.allclose(symmetrized.q_net(turned), expected, atol=1e-5)
    assert set(loaded.q_net.state_dict()) == set(model.q_net.state_dict())  # no weights but the agent's own


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
