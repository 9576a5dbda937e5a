"""Actions that a group mixes by matrices: eighths of a turn, exactly, for SAC, TD3 and PPO, and their squashing."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution

from equirl import MDPSymmetry, build_symmetry, cyclic_group, permutation_representation
from equirl.agents import (
    METHODS,
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantSACPolicy,
    EquivariantTD3Policy,
    SymmetryReplayBuffer,
    load_agent,
)
from equirl.agents.round_squash import RoundSquashedGaussian
from equirl.constructions import trivial_representation
from equirl.envs import check_symmetry
from equirl.envs.point_robot import PointRobotEnv
from equirl.envs.spaces import resolve_symmetry
from equirl.matrices import MatrixRepresentation, blocks, matrix_sum, plane_representation
from equirl.symmetry import save_symmetry

AGENTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sac": (SAC, EquivariantSACPolicy, {"learning_starts": 30, "batch_size": 16}),
    "td3": (TD3, EquivariantTD3Policy, {"learning_starts": 30, "batch_size": 16}),
    "ppo": (PPO, EquivariantActorCriticPolicy, {"n_steps": 32, "batch_size": 16, "n_epochs": 2}),
}
OBSERVATIONS = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 8)), dtype=torch.float32)
ACTIONS = torch.as_tensor(np.random.default_rng(1).uniform(-0.6, 0.6, size=(20, 2)), dtype=torch.float32)


def _agent(name: str, method: str, symmetry: str, **settings: Any) -> Any:
    make, policy, own = AGENTS[name]
    kwargs = {"symmetry": symmetry, "method": method, "net_arch": [16, 16], **settings}
    return make(policy, gym.make("equirl/PointRobot-v0"), policy_kwargs=kwargs, seed=0, device="cpu", **own)


def _answers(agent: Any, observations: torch.Tensor, actions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what moves as an action does, ``[B, 2]``, and what stays: values and log-probabilities of the actions."""
    policy = agent.policy
    with torch.no_grad():
        if isinstance(agent, PPO):
            made = policy.get_distribution(observations)
            return made.mode(), torch.stack([made.log_prob(actions), policy.predict_values(observations)[:, 0]])
        values = torch.cat(policy.critic(observations, actions), dim=1).T
        if isinstance(agent, TD3):
            return policy.actor(observations), values
        mean, log_std, _ = policy.actor.get_action_dist_params(observations)
        made = policy.actor.action_dist.proba_distribution(mean, log_std)
        return made.mode(), torch.cat([made.log_prob(actions)[None], values])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", list(AGENTS))
@pytest.mark.parametrize("symmetry", ["plane-c8", "plane-d8"])
def test_eighths_of_a_turn_are_exact_after_training(symmetry: str, name: str, method: str) -> None:
    agent = _agent(name, method, symmetry)
    before = {key: value.clone() for key, value in agent.policy.state_dict().items()}
    agent.learn(64)
    assert any(not torch.equal(before[key], value) for key, value in agent.policy.state_dict().items())
    agent.policy.set_training_mode(False)
    moves = build_symmetry(symmetry, (8,), 2)
    turned, kept = _answers(agent, OBSERVATIONS, ACTIONS)
    assert float(turned.norm(dim=1).max()) <= 1 + 1e-6 or name == "ppo"
    for g in range(moves.group.order):
        seen, taken = moves.observation.transform(g, OBSERVATIONS), moves.action.transform(g, ACTIONS)
        assert isinstance(seen, torch.Tensor)
        assert isinstance(taken, torch.Tensor)
        there, same = _answers(agent, seen, taken)
        torch.testing.assert_close(there, moves.action.transform(g, turned), rtol=0, atol=1e-5)
        torch.testing.assert_close(same, kept, rtol=1e-5, atol=1e-5)


def test_one_number_is_squashed_as_sb3_squashes_it() -> None:
    alone = MatrixRepresentation(cyclic_group(2), [[[1.0]], [[-1.0]]])
    ours, theirs = RoundSquashedGaussian(alone), SquashedDiagGaussianDistribution(1)
    mean, log_std = torch.randn(30, 1), torch.full((30, 1), -0.5)
    for made in (ours, theirs):
        made.proba_distribution(mean, log_std)
    torch.testing.assert_close(ours.mode(), theirs.mode())
    actions = torch.linspace(-0.95, 0.95, 30).unsqueeze(1)
    torch.testing.assert_close(ours.log_prob(actions), theirs.log_prob(actions), rtol=1e-4, atol=1e-4)


def test_the_density_is_that_of_the_squashed_draws() -> None:
    plane = plane_representation(8)
    assert isinstance(plane, MatrixRepresentation)
    made = RoundSquashedGaussian(plane)
    mean, log_std = torch.tensor([[0.4, -0.2]]), torch.tensor([[-0.7, -0.7]])
    made.proba_distribution(mean, log_std)
    steps = torch.linspace(-0.999, 0.999, 1000)
    points = torch.cartesian_prod(steps, steps)
    inside = points[points.norm(dim=1) < 0.999]
    made.proba_distribution(mean.expand(len(inside), 2), log_std.expand(len(inside), 2))
    density = made.log_prob(inside).exp()
    cell = float(steps[1] - steps[0]) ** 2
    assert float(density.sum()) * cell == pytest.approx(1, abs=0.01)
    made.proba_distribution(mean.expand(20_000, 2), log_std.expand(20_000, 2))
    drawn = made.sample()
    assert float(drawn.norm(dim=1).max()) < 1
    torch.testing.assert_close((density[:, None] * inside).sum(dim=0) * cell, drawn.mean(dim=0), rtol=0, atol=0.01)
    # Before squashing or after it, the same number.
    torch.testing.assert_close(made.log_prob(drawn, made.gaussian_actions), made.log_prob(drawn), rtol=1e-3, atol=1e-3)


def test_a_saved_agent_opens_and_augmentation_turns_by_degrees(tmp_path: Any) -> None:
    agent = _agent("sac", "canonical", "plane-c8")
    agent.save(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    observation = OBSERVATIONS[0].numpy()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], agent.predict(observation, deterministic=True)[0]
    )
    plain = SAC(
        "MlpPolicy",
        gym.make("equirl/PointRobot-v0"),
        replay_buffer_class=SymmetryReplayBuffer,
        replay_buffer_kwargs={"symmetry": "plane-c360"},
        learning_starts=30,
        device="cpu",
    )
    plain.learn(40)
    stored: Any = plain.replay_buffer
    torch.manual_seed(0)
    lengths = stored.observations[:40, 0, 2:4]
    sampled = stored.sample(200)
    known = torch.as_tensor(np.linalg.norm(lengths, axis=1))
    found = sampled.observations[:, 2:4].norm(dim=1)
    assert float((found[:, None] - known).abs().min(dim=1).values.max()) < 1e-5
    angles = torch.atan2(sampled.actions[:, 1], sampled.actions[:, 0])
    assert len(torch.unique((angles * 180 / math.pi).round())) > 60


def test_what_takes_permutations_alone_says_so(tmp_path: Any) -> None:
    symmetry = build_symmetry("plane-c8", (8,), 2)
    with pytest.raises(TypeError, match=r"a symmetry file holds permutations .* got MatrixRepresentation"):
        save_symmetry(symmetry, tmp_path / "plane.toml")
    with pytest.raises(TypeError, match="mixes the numbers of an action by matrices"):
        PPO(
            EquivariantActorCriticPolicy,
            gym.make("equirl/PointRobot-v0"),
            use_sde=True,
            policy_kwargs={"symmetry": "plane-c8", "method": "equitune"},
        )
    group = cyclic_group(8)
    discrete = MDPSymmetry("turns", trivial_representation(group, (4,)), plane_representation(8))
    with pytest.raises(TypeError, match="mixes the numbers of an action by matrices"):
        resolve_symmetry(discrete, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
    uneven = spaces.Box(np.array([-1, -2], np.float32), np.array([1, 2], np.float32))
    with pytest.raises(ValueError, match=r"mixes numbers \[0, 1\] of an action, which then need one bound"):
        resolve_symmetry(discrete, spaces.Box(-1, 1, (4,)), uneven)


def test_a_number_that_stays_may_have_any_bounds() -> None:
    group = cyclic_group(8)
    drone = matrix_sum(plane_representation(8), trivial_representation(group, (1,)))
    symmetry = MDPSymmetry("drone", trivial_representation(group, (4,)), drone)
    thrust = spaces.Box(np.array([-1, -1, 0], np.float32), np.array([1, 1, 2], np.float32))
    assert resolve_symmetry(symmetry, spaces.Box(-1, 1, (4,)), thrust) is symmetry
    flipped = MDPSymmetry(
        "flipped",
        trivial_representation(cyclic_group(2), (4,)),
        MatrixRepresentation(cyclic_group(2), [[[1.0]], [[-1.0]]]),
    )
    with pytest.raises(ValueError, match=r"mixes numbers \[0\] of an action"):
        resolve_symmetry(flipped, spaces.Box(-1, 1, (4,)), spaces.Box(0, 1, (1,)))


def test_blocks_are_what_matrices_mix() -> None:
    plane, group = plane_representation(8), cyclic_group(8)
    both = matrix_sum(plane, trivial_representation(group, (1,)), plane)
    joined = blocks(both)
    expected = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1), torch.ones(2, 2))
    torch.testing.assert_close(joined, expected)


class Compass(gym.ActionWrapper[Any, Any, Any]):
    """Forces in eight directions instead of all."""

    def __init__(self) -> None:
        super().__init__(PointRobotEnv(1))
        self.action_space = spaces.Discrete(8)

    def action(self, action: Any) -> Any:
        return np.array([np.cos(np.pi * action / 4), np.sin(np.pi * action / 4)])


@pytest.mark.parametrize("method", METHODS)
def test_a_finite_subgroup_turns_discrete_actions(method: str) -> None:
    seen, _ = PointRobotEnv(1).layout
    turned = [[(action + g) % 8 for action in range(8)] for g in range(8)]
    symmetry = MDPSymmetry("compass", seen.sampled(8), permutation_representation(cyclic_group(8), turned))
    assert check_symmetry(Compass(), symmetry).verdict == "holds"
    kwargs = {"symmetry": symmetry, "method": method, "net_arch": [16]}
    agent = DQN(EquivariantDQNPolicy, Compass(), policy_kwargs=kwargs, learning_starts=20, seed=0).learn(60)
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = agent.q_net(x)
        for g in range(8):
            image = agent.q_net(symmetry.observation.transform(g, x))
            torch.testing.assert_close(image, symmetry.action.transform(g, values), atol=1e-5, rtol=0)
