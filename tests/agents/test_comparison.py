"""Agents of a comparison share a world and hyperparameters; only the method differs."""

import warnings
from typing import Any

import pytest
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from equirl.agents import SymmetryReplayBuffer, SymmetryRolloutBuffer
from equirl.agents.comparison import COMPARED, Comparison, make_agent, prepare_comparison
from equirl.agents.learning_curve import EvaluationPlan, check_agents, learning_curve, level
from equirl.agents.loading import ALGORITHMS
from equirl.agents.orbit_statistics import OrbitStatistics
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.methods import ALL_METHODS, RELAXED_METHODS

_SMALL = {"policy": "MlpPolicy", "n_timesteps": 100, "policy_kwargs": "dict(net_arch=[8])", "learning_rate": "lin_0.01"}


def _pole(algorithm: str = "dqn", **more: Any) -> Comparison:
    return prepare_comparison("CartPole-v1", "cartpole-z2", algorithm, {**_SMALL, **more})


DISCRETE = [name for name, policy in POLICY_CLASSES.items() if spaces.Discrete in policy.takes and name in ALGORITHMS]


@pytest.mark.parametrize("algorithm", DISCRETE)
def test_all_methods_have_the_same_hyperparameters(algorithm: str) -> None:
    comparison = _pole(algorithm, gamma=0.9, n_envs=2)
    single = ("augmentation", "mirror_loss", *RELAXED_METHODS)  # they look at single observations
    refused = {"ppo_lstm": single, "trpo": ("penalty",)}.get(algorithm, ())
    for method in (each for each in COMPARED if each not in refused):
        agent: Any = comparison.agent(method, seed=3, device="cpu")
        assert (agent.gamma, agent.n_envs, agent.seed) == (0.9, 2, 3)
        assert agent.lr_schedule(0.5) == 0.005  # falls to 0
        assert agent.policy.net_arch == [8]
        assert isinstance(agent.policy, SymmetricPolicy) is (method in ALL_METHODS)
        buffer = getattr(agent, "replay_buffer", None) or agent.rollout_buffer
        assert isinstance(buffer, (SymmetryReplayBuffer, SymmetryRolloutBuffer)) is (method == "augmentation")


@pytest.mark.parametrize("method", ["plain", "augmentation", "mirror_loss", "equitune"])
def test_all_methods_learn_from_returns_of_as_many_steps(method: str) -> None:
    comparison = _pole("dqn", gamma=0.9, n_steps=3, learning_starts=0, n_envs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # SB3 warns where it leaves n_steps out
        buffer: Any = comparison.agent(method, seed=3, device="cpu").replay_buffer
    assert (buffer.n_steps, buffer.gamma) == (3, 0.9)


def test_what_would_differ_between_methods_is_left_to_them() -> None:
    own = {"policy": "equirl.agents.policies.CartpoleZ2EquizeroPolicy", "callback": "equirl.agents.SymmetryCallback"}
    comparison = _pole(**own, policy_kwargs={"net_arch": [8], "method": "canonical"})
    assert comparison.settings["policy_kwargs"] == {"net_arch": [8]}
    assert _pole(policy="CnnPolicy").settings["policy_kwargs"]["features_extractor_class"] is NatureCNN
    for wrong, told in (
        ({"replay_buffer_class": "equirl.agents.SymmetryReplayBuffer"}, "replay_buffer_class cannot be shared"),
        ({"frame_stack": 4}, "frame_stack cannot be shared"),
        ({"policy": "LnMlpPolicy"}, "policy LnMlpPolicy cannot be compared"),
    ):
        with pytest.raises(ValueError, match=told):
            _pole(**wrong)
    for method in ("augmentation", "mirror_loss"):
        with pytest.raises(ValueError, match=f"states of an episode, and {method} looks at single observations"):
            _pole("ppo_lstm").agent(method, 0, "cpu")
    with pytest.raises(ValueError, match="Did you mean 'equitune'"):
        make_agent("dqn", "CartPole-v1", {}, method="equitun", symmetry="cartpole-z2")


def test_observations_are_normalised_by_orbits_wherever_the_symmetry_is_known() -> None:
    comparison = _pole("ppo", normalize=True, gamma=0.9)
    for method in COMPARED:
        normalized = unwrap_vec_normalize(comparison.agent(method, 0, "cpu").get_env())
        assert normalized is not None
        assert (normalized.norm_obs, normalized.norm_reward, normalized.gamma) == (True, True, 0.9)
        assert isinstance(normalized.obs_rms, OrbitStatistics) is (method != "plain")
    rewards = {"norm_obs": False, "norm_reward": True}
    for given, kept in ((str(rewards), rewards), (False, None)):
        assert _pole(normalize=given).normalize == kept
    plan = EvaluationPlan(steps=128, every=64, episodes=1)
    curves = [learning_curve(_pole("ppo", normalize=True, n_steps=64), "canonical", 0, plan, "cpu") for _ in range(2)]
    assert [point.mean_return for point in curves[0]] == [point.mean_return for point in curves[1]]


def test_a_curve_ends_once_the_agent_has_learned() -> None:
    comparison = _pole(learning_starts=10)
    plan = EvaluationPlan(steps=60, every=20, episodes=2, threshold=1.0, stop_after=2)
    points = learning_curve(comparison, "plain", 0, plan, "cpu")
    assert [point.timesteps for point in points] == [20, 40]  # any return is above 1
    assert {point.success_rate for point in points} == {None}
    again = learning_curve(comparison, "plain", 0, plan, "cpu")
    assert [point.mean_return for point in again] == [point.mean_return for point in points]


def test_evaluations_are_at_equal_distances_with_several_environments() -> None:
    comparison = _pole(learning_starts=10, n_envs=8)
    points = learning_curve(comparison, "plain", 0, EvaluationPlan(steps=100, every=30, episodes=1), "cpu")
    assert [point.timesteps for point in points] == [32, 64, 96]
    message = "no evaluation within 7 steps: n_envs:8 step together, so one comes every 8 steps"
    with pytest.raises(ValueError, match=message):
        check_agents(comparison, ["plain"], EvaluationPlan(steps=7, every=7, episodes=1), "cpu")


def test_what_counts_as_learned() -> None:
    assert level("CartPole-v1", has_success=False, threshold=None) == 475
    assert level("CartPole-v1", has_success=True, threshold=None) == 0.95
    assert level("equirl/GridWorld-v0", has_success=False, threshold=None) is None
    assert level("CartPole-v1", has_success=False, threshold=3.0) == 3
