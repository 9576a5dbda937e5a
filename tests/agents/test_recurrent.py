"""RecurrentPPO with a symmetry: whole episodes are equivariant, the weights of the views last for an episode."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from torch import Tensor

import equirl.envs  # noqa: F401
from equirl import (
    MDPSymmetry,
    build_symmetry,
    cyclic_group,
    signed_permutation_representation,
    trivial_representation,
)
from equirl.agents import METHODS, EquivariantRecurrentPolicy, LambdaFit, load_agent, symmetrize_agent
from equirl.agents.audit import audit_agent
from equirl.agents.scores import history_scores
from equirl.agents.visited_states import rollout_histories
from equirl.testing import equivariance_error

CRITICS = {
    "own": {"enable_critic_lstm": True},
    "shared": {"enable_critic_lstm": False, "shared_lstm": True},
    "none": {"enable_critic_lstm": False},
}
C4 = cyclic_group(4)
_TURNS = [([0, 1], [1, 1]), ([1, 0], [1, -1]), ([0, 1], [-1, -1]), ([1, 0], [-1, 1])]  # of (x, y) by 0, 90, ... degrees


class Plane(gym.Env[Any, Any]):
    """A point that is pushed over the plane towards a place seen at the first step alone."""

    observation_space = spaces.Box(-2, 2, (4,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place, self.target = self.np_random.uniform(-1, 1, (2, 2))
        return np.concatenate([self.place, self.target]).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = np.clip(self.place + 0.1 * action, -2, 2)
        seen = np.concatenate([self.place, np.zeros(2)]).astype(np.float32)
        reward = -float(np.abs(self.place - self.target).sum())
        return seen, reward, bool(self.np_random.random() < 0.1), bool(self.np_random.random() < 0.05), {}


def _turns(copies: int) -> Any:
    action = [[2 * k + place for k in range(copies) for place in places] for places, _ in _TURNS]
    return signed_permutation_representation(C4, action, [signs * copies for _, signs in _TURNS])


TURNS = MDPSymmetry("turns", _turns(2), _turns(1))
WORLDS: dict[str, tuple[Any, Any]] = {
    "grid": (lambda: gym.make("equirl/GridWorld-v0"), "grid-d4"),
    "plane": (Plane, TURNS),
}


def _agent(world: str, method: str, critic: str = "own", seed: int = 0, **kwargs: Any) -> RecurrentPPO:
    make, symmetry = WORLDS[world]
    policy_kwargs = {"symmetry": symmetry, "method": method, "lstm_hidden_size": 8, "net_arch": [8], **CRITICS[critic]}
    return RecurrentPPO(
        EquivariantRecurrentPolicy,
        make(),
        n_steps=48,
        batch_size=48,
        n_epochs=1,
        learning_rate=0.01,
        seed=seed,
        device="cpu",
        policy_kwargs=policy_kwargs | kwargs,
    )


def _histories(agent: RecurrentPPO, steps: int, n: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return observations ``[T, n, ...]``, the first all zero: every view of it is the same, and starts ``[T, n]``."""
    random = np.random.default_rng(seed)
    space = agent.observation_space
    observations = random.uniform(space.low, space.high, (steps, n, *space.shape)).astype(np.float32)
    if space.dtype == np.uint8:
        observations = observations.round()
    observations[0, 0] = 0
    starts = random.random((steps, n)) < 0.05
    starts[0] = True
    return torch.as_tensor(observations), torch.as_tensor(starts).float()


def _run(policy: Any, observations: Tensor, starts: Tensor) -> Iterator[tuple[Tensor, Tensor, RNNStates]]:
    """Yield action parameters, values and the next states, step by step."""
    lstm = policy.lstm_actor
    zeros = torch.zeros(lstm.num_layers, observations.shape[1], lstm.hidden_size)
    states = RNNStates((zeros, zeros), (zeros, zeros))
    for seen, start in zip(observations, starts, strict=True):
        made = policy.get_distribution(seen, states.pi, start)[0].distribution
        _, values, _, states = policy(seen, states, start)
        yield (made.logits if hasattr(made, "logits") else made.mean), values, states


def _all_views(policy: Any, observations: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the histories ``[T, n, ...]`` under each element as more histories, ``[T, |G| n, ...]``, and starts."""
    order = policy.symmetry.group.order
    moved = [policy.input_rep.transform(g, observations.flatten(0, 1)).view(observations.shape) for g in range(order)]
    return torch.cat(moved, dim=1), starts.repeat(1, order)


def _assert_equivariant(agent: RecurrentPPO, steps: int) -> None:
    policy: Any = agent.policy
    policy.set_training_mode(False)
    order, action = policy.symmetry.group.order, policy.symmetry.action
    with torch.no_grad():
        made = list(_run(policy, *_all_views(policy, *_histories(agent, steps, n=2))))
    parameters = torch.stack([step[0] for step in made]).unflatten(1, (order, 2))
    values = torch.stack([step[1] for step in made]).unflatten(1, (order, 2))
    size = max(1, float(parameters.abs().max()))
    for g in range(order):
        expected = action.transform(g, parameters[:, 0].flatten(0, 1)).view(parameters[:, 0].shape)
        assert float((parameters[:, g] - expected).abs().max()) < 1e-5 * size
        torch.testing.assert_close(values[:, g], values[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("world", "critic"), [("grid", "own"), ("grid", "shared"), ("plane", "own"), ("plane", "none")]
)
def test_200_steps_are_equivariant_before_during_and_after_training(world: str, critic: str, method: str) -> None:
    agent = _agent(world, method, critic)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    _assert_equivariant(agent, 10)
    agent.learn(48)
    _assert_equivariant(agent, 10)
    agent.learn(48, reset_num_timesteps=False)
    _assert_equivariant(agent, 200)
    assert all(not torch.equal(before[key], value) for key, value in agent.policy.state_dict().items())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "equitune"])
def test_weights_last_for_an_episode_and_are_those_of_its_first_observation(method: str) -> None:
    agent = _agent("plane", method)
    agent.learn(48)  # λ begins constant
    policy: Any = agent.policy
    observations, starts = _histories(agent, 60)
    with torch.no_grad():
        carried = torch.stack(
            [policy.lstm_actor.weights(states.pi) for _, _, states in _run(policy, observations, starts)]
        )
        chosen = policy.orbit_weights(observations.flatten(0, 1)).view(carried.shape)

    torch.testing.assert_close(carried.sum(dim=2), torch.ones(carried.shape[:2]))
    torch.testing.assert_close(carried[starts == 1], chosen[starts == 1])
    for (before, here), start in zip(pairwise(carried), starts[1:], strict=True):
        torch.testing.assert_close(here[start == 0], before[start == 0], rtol=0, atol=0)
    # The last observation would choose other weights than the ones that the state carries from the first step.
    later = starts == 0
    assert float((carried[later] - chosen[later]).abs().amax(dim=1).mean()) > (1e-4 if "lambda" in method else 0.5)


@pytest.mark.parametrize("method", METHODS)
def test_the_output_is_the_weighted_sum_of_plain_networks_on_the_history_of_each_view(method: str) -> None:
    agent = _agent("plane", method)
    policy: Any = agent.policy
    observations, starts = _histories(agent, 6, n=1, seed=1)
    starts[1:] = 0
    plain = RecurrentPPO("MlpLstmPolicy", Plane(), device="cpu", policy_kwargs={"lstm_hidden_size": 8, "net_arch": [8]})
    plain.policy.load_state_dict(policy.state_dict(), strict=False)
    with torch.no_grad():
        weights = policy.orbit_weights(observations[0])[0]
        expected, group = torch.zeros(6, 1, 2), policy.symmetry.group
        for step, (parameters, _, _) in enumerate(_run(plain.policy, *_all_views(policy, observations, starts))):
            for g, weight in enumerate(weights.tolist()):
                back = policy.symmetry.action.transform(group.inverse(g), parameters[g : g + 1])
                expected[step] += weight * back
        found = torch.stack([parameters for parameters, _, _ in _run(policy, observations, starts)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("critic", CRITICS)
def test_whole_sequences_give_what_single_steps_give(method: str, critic: str) -> None:
    agent = _agent("plane", method, critic)
    policy: Any = agent.policy
    observations, starts = _histories(agent, 30)
    actions = torch.rand(3, 30, 2)
    with torch.no_grad():
        steps = list(_run(policy, observations, starts))
        middle = 13
        alone = policy.predict_values(observations[middle], steps[middle - 1][2].vf, starts[middle])
        values, log_prob, _ = policy.evaluate_actions(
            observations[middle:].transpose(0, 1).flatten(0, 1),
            actions[:, middle:].flatten(0, 1),
            steps[middle - 1][2],
            starts[middle:].T.flatten(),
        )
        torch.testing.assert_close(alone, steps[middle][1])
        for step, (parameters, value, _) in enumerate(steps[middle:]):
            expected = policy._distribution(parameters).log_prob(actions[:, middle + step])
            torch.testing.assert_close(log_prob.view(3, -1)[:, step], expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(values.view(3, -1)[:, step], value[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_states_move_in_the_regular_representation(method: str) -> None:
    agent = _agent("plane", method)
    policy: Any = agent.policy
    observations, starts = _histories(agent, 5, seed=2)
    lstm, group = policy.lstm_actor, policy.symmetry.group
    with torch.no_grad():
        *_, (_, _, states) = _run(policy, *_all_views(policy, observations, starts))
    for state in (states.pi, states.vf):
        views = lstm.views(state)[0].view(group.order, 3, group.order, 8)
        for h in range(group.order):
            order = [group.multiply(g, h) for g in range(group.order)]  # view g of h x is view g h of x
            torch.testing.assert_close(views[h], views[0][:, order], rtol=1e-5, atol=1e-6)
            if lstm.n_weights:
                weights = lstm.weights(state).view(group.order, 3, group.order)
                torch.testing.assert_close(weights[h], weights[0][:, order])


def test_lambda_learns_where_a_sequence_holds_the_start_of_an_episode_and_only_there() -> None:
    policy: Any = _agent("plane", "lambda_equitune").policy
    last = policy.aggregator.network[-1].weight
    torch.nn.init.normal_(last)
    observations = torch.rand(6, 4)
    zeros = torch.zeros(policy.lstm_hidden_state_shape)
    with torch.no_grad():
        _, _, _, states = policy(observations[:1], RNNStates((zeros, zeros), (zeros, zeros)), torch.ones(1))
    for starts, learns in ((torch.zeros(6), False), (torch.eye(6)[3], True)):
        policy.zero_grad()
        values, _, _ = policy.evaluate_actions(observations, torch.zeros(6, 2), states, starts)
        values.square().sum().backward()
        assert (last.grad is not None and float(last.grad.abs().max()) > 0) == learns


@pytest.mark.parametrize("critic", CRITICS)
@pytest.mark.parametrize("method", METHODS)
def test_a_trivial_group_trains_as_stock_does(method: str, critic: str) -> None:
    group = cyclic_group(1)
    symmetry = MDPSymmetry("trivial", trivial_representation(group, (4,)), trivial_representation(group, (2,)))
    steps = 1_000 if method == "equitune" and critic == "own" else 128
    trained = []
    for policy, kwargs in (
        ("MlpLstmPolicy", {}),
        (EquivariantRecurrentPolicy, {"symmetry": symmetry, "method": method}),
    ):
        settings = {"lstm_hidden_size": 8, "net_arch": [8], "optimizer_kwargs": {"fused": True, "eps": 1e-5}}
        agent = RecurrentPPO(
            policy,  # type: ignore[arg-type]  # as a name or a class
            "CartPole-v1",
            n_steps=64,
            n_epochs=2,
            seed=3,
            device="cpu",
            policy_kwargs=settings | CRITICS[critic] | kwargs,
        )
        before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
        agent.learn(steps)
        trained.append((before, agent.policy.state_dict(), agent))
    (stock_before, stock, plain), (ours_before, ours, agent) = trained
    assert all(torch.equal(ours_before[key], value) for key, value in stock_before.items())
    assert max(float((ours[key] - value).abs().max()) for key, value in stock.items()) < 1e-6
    assert max(float((stock[key] - value).abs().max()) for key, value in stock_before.items()) > 1e-3  # it did train
    assert all(key.startswith("aggregator.") for key in ours.keys() - stock)
    assert agent.policy.lstm_hidden_state_shape == plain.policy.lstm_hidden_state_shape


@pytest.mark.parametrize("method", ["lambda_equitune", "canonical"])
def test_a_saved_agent_acts_as_before_with_state_and_episode_start(method: str, tmp_path: Path) -> None:
    agent = _agent("plane", method, "shared", n_lstm_layers=2)
    agent.learn(48)
    agent.save(tmp_path / "agent")
    agent.policy.save(tmp_path / "policy.pth")
    loaded = RecurrentPPO.load(tmp_path / "agent", device="cpu")
    alone = EquivariantRecurrentPolicy.load(tmp_path / "policy.pth", device="cpu")
    seen, starts = (part.numpy() for part in _histories(agent, 12))
    states: list[Any] = [None, None, None]
    actors: list[Any] = [agent, loaded, alone]
    for observation, start in zip(seen, starts == 1, strict=True):
        acted = [
            actor.predict(observation, state=state, episode_start=start, deterministic=True)
            for actor, state in zip(actors, states, strict=True)
        ]
        states = [state for _, state in acted]
        for actions, _ in acted[1:]:
            np.testing.assert_array_equal(actions, acted[0][0])
    assert states[0][0].shape == (2, 3, 4 * 8 + 4)

    fresh, _ = agent.predict(seen[-1], deterministic=True)
    again, _ = agent.predict(seen[-1], states[0], episode_start=np.ones(3, dtype=bool), deterministic=True)
    later, _ = agent.predict(seen[-1], states[0], deterministic=True)
    np.testing.assert_allclose(again, fresh, atol=1e-6)
    assert np.abs(later - fresh).max() > 1e-4


@pytest.mark.parametrize("gradient", ["pick", "straight_through"])
def test_equizero_skips_views_unless_all_take_part_in_the_gradient(gradient: str) -> None:
    agent = _agent("plane", "equizero", method_kwargs={"gradient": gradient})
    policy: Any = agent.policy
    observations, starts = _histories(agent, 3, seed=4)
    with torch.no_grad():
        *_, (_, _, states) = _run(policy, observations, starts)
    views = policy.lstm_actor.views(states.pi)[0].view(3, 4, 8)
    unused = policy.lstm_actor.weights(states.pi) == 0
    assert bool(unused.any())
    assert bool((views[unused] == 0).all()) == (gradient == "pick")
    agent.learn(48)
    _assert_equivariant(agent, 30)


def test_the_state_of_another_policy_and_unequal_sequences_are_refused() -> None:
    policy: Any = _agent("plane", "canonical").policy
    with pytest.raises(ValueError, match=r"has 8 numbers for each environment, but this policy remembers 36 \(4 views"):
        policy.predict(np.zeros((2, 4), np.float32), (np.zeros((1, 2, 8)), np.zeros((1, 2, 8))))
    with pytest.raises(ValueError, match="3 observations are no 2 sequences of equal length"):
        policy.predict(np.zeros((3, 4), np.float32), (np.zeros((1, 2, 36)), np.zeros((1, 2, 36))))


def _plain_agent(**kwargs: Any) -> RecurrentPPO:
    settings = {"lstm_hidden_size": 8, "net_arch": [8], **kwargs}
    agent = RecurrentPPO(
        "MlpLstmPolicy", "CartPole-v1", n_steps=32, n_epochs=1, seed=0, device="cpu", policy_kwargs=settings
    )
    return agent.learn(32)


@pytest.mark.parametrize("method", ["equitune", "equizero", "canonical"])
@pytest.mark.parametrize("critic", CRITICS)
def test_a_trained_agent_becomes_equivariant_with_its_own_weights(method: str, critic: str) -> None:
    plain = _plain_agent(**CRITICS[critic])
    agent = symmetrize_agent(plain, "cartpole-z2", method)

    assert type(agent) is RecurrentPPO
    assert all(torch.equal(agent.policy.state_dict()[key], value) for key, value in plain.policy.state_dict().items())
    scores = history_scores(agent, np.eye(20, 2, dtype=bool))
    symmetry = build_symmetry("cartpole-z2", (4,), 2)
    states = torch.rand(40, 4) - 0.5
    assert equivariance_error(scores, symmetry.observation, symmetry.action, states) < 1e-5
    of_plain = history_scores(plain, np.eye(20, 2, dtype=bool))
    assert equivariance_error(of_plain, symmetry.observation, symmetry.action, states) > 1e-5
    agent.learn(32)


def test_lambda_of_a_trained_agent_is_fitted_on_first_observations() -> None:
    first = torch.rand(40, 4)  # one view of two is never met
    agent = symmetrize_agent(
        _plain_agent(), "cartpole-z2", "lambda_equitune", observations=first, fit=LambdaFit(steps=60)
    )
    policy: Any = agent.policy
    assert float(policy.orbit_weights(first)[:, 0].detach().min()) > 0.55


def test_scores_of_histories_are_those_of_acting_step_by_step() -> None:
    agent = _plain_agent()
    environments = agent.get_env()
    assert environments is not None
    visited, starts = rollout_histories(agent, environments, 50, seed=1)
    assert starts.shape == (50, 1)
    assert starts.sum() > 1
    policy: Any = agent.policy
    with torch.no_grad():
        steps = _run(policy, visited.unsqueeze(1), torch.as_tensor(starts).float())  # type: ignore[union-attr]
        expected = torch.cat([parameters for parameters, _, _ in steps])
    torch.testing.assert_close(history_scores(agent, starts)(visited), expected, rtol=1e-5, atol=1e-6)


def test_an_audit_of_a_recurrent_agent_remembers_episodes() -> None:
    agent = _plain_agent()
    environments = agent.get_env()
    assert environments is not None
    rows = {row.agent: row for row in audit_agent(agent, environments, "cartpole-z2", n_episodes=2, n_states=30)}
    assert list(rows) == ["plain", "equitune", "equizero", "canonical"]
    assert rows["plain"].equivariance_error > 1e-3
    assert max(rows[name].equivariance_error for name in rows if name != "plain") < 1e-5


@pytest.mark.parametrize("equivariant", [True, False])
def test_a_file_tells_that_it_is_of_a_recurrent_agent(equivariant: bool, tmp_path: Path) -> None:
    agent = _agent("plane", "canonical") if equivariant else _plain_agent()
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent", device="cpu")
    assert type(loaded) is RecurrentPPO
    assert type(loaded.policy) is type(agent.policy)
    with pytest.raises(ValueError, match="was saved by RecurrentPPO, not by PPO"):
        load_agent(tmp_path / "agent", algorithm="ppo", device="cpu")
