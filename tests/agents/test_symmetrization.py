from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import ARS, QRDQN
from specialist import SIZE
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

from equirl import (
    MDPSymmetry,
    TokenRepresentation,
    build_symmetry,
    cyclic_group,
    equivariance_error,
    permutation_representation,
    signed_permutation_representation,
)
from equirl.agents import (
    METHODS,
    EquivariantActorCriticPolicy,
    EquivariantDQNPolicy,
    EquivariantQRDQNPolicy,
    GridCNN,
    LambdaFit,
    Novelty,
    SymmetryReplayBuffer,
    SymmetryRolloutBuffer,
    fit_lambda,
    replay_observations,
    rollout_observations,
    symmetrize_agent,
    symmetrize_statistics,
)
from equirl.agents.scores import action_scores
from equirl.agents.symmetrization import agent_symmetry
from equirl.symmetry import stack_frames

OFF = {"learning_starts": 20, "buffer_size": 400, "train_freq": 1, "policy_kwargs": {"net_arch": [32]}}
ON = {"n_steps": 16, "policy_kwargs": {"net_arch": [32]}}
AGENTS: dict[str, tuple[type[BaseAlgorithm], type, dict[str, Any]]] = {
    "dqn": (DQN, EquivariantDQNPolicy, OFF),
    "qrdqn": (QRDQN, EquivariantQRDQNPolicy, {**OFF, "policy_kwargs": {"net_arch": [32], "n_quantiles": 5}}),
    "ppo": (PPO, EquivariantActorCriticPolicy, {**ON, "batch_size": 16, "n_epochs": 2}),
    "a2c": (A2C, EquivariantActorCriticPolicy, ON),
}


def _agent(name: str, learn: int = 64, **changed: Any) -> BaseAlgorithm:
    algorithm, _, settings = AGENTS[name]
    environment = gym.make("equirl/GridWorld-v0", size=4)
    model = algorithm("MlpPolicy", environment, seed=0, device="cpu", **{**settings, **changed})  # type: ignore[call-arg]
    return model.learn(learn)


def _observations(size: int = 4) -> np.ndarray:
    environment = gym.make("equirl/GridWorld-v0", size=size, wall_density=0.2)
    return np.stack([environment.reset(seed=seed)[0] for seed in range(40)])


def _error(model: BaseAlgorithm, observations: np.ndarray, symmetry: str | MDPSymmetry = "grid-d4") -> float:
    built = agent_symmetry(model, symmetry)
    return equivariance_error(action_scores(model), built.observation, built.action, torch.as_tensor(observations))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_of_every_kind_becomes_equivariant_and_stays_an_agent(name: str, method: str, tmp_path: Path) -> None:
    model, observations = _agent(name), _observations()
    assert _error(model, observations) > 1e-3
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    symmetrized = symmetrize_agent(
        model, "grid-d4", method, observations=torch.as_tensor(observations), fit=LambdaFit(steps=20)
    )
    algorithm, policy_class, _ = AGENTS[name]
    assert type(symmetrized) is algorithm
    assert type(symmetrized.policy) is policy_class
    assert _error(symmetrized, observations) < 1e-5
    assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())  # left as it was
    assert all(torch.equal(symmetrized.policy.state_dict()[key], value) for key, value in before.items())

    symmetrized.save(tmp_path / "out.zip")
    loaded = algorithm.load(tmp_path / "out.zip", device="cpu")  # SB3's own load
    expected, _ = symmetrized.predict(observations, deterministic=True)
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], expected)
    mean, _ = evaluate_policy(loaded, make_vec_env("equirl/GridWorld-v0", env_kwargs={"size": 4}), n_eval_episodes=3)
    assert 0 <= float(np.mean(mean)) <= 1
    symmetrized.learn(40, reset_num_timesteps=False)
    assert symmetrized.num_timesteps >= model.num_timesteps + 40
    assert _error(symmetrized, observations) < 1e-5


@pytest.mark.parametrize("name", ["ppo", "a2c"])
def test_the_value_of_an_actor_critic_is_invariant(name: str) -> None:
    model, observations = symmetrize_agent(_agent(name), "grid-d4"), torch.as_tensor(_observations())
    policy: Any = model.policy
    representation = policy.symmetry.observation
    with torch.no_grad():
        values = policy.predict_values(observations)
        _, log_probabilities, entropy = policy.evaluate_actions(observations, torch.zeros(len(observations)))
        for g in range(8):
            turned = representation.transform(g, observations)
            assert torch.allclose(policy.predict_values(turned), values, atol=1e-5)
            image = policy.symmetry.action.index[g].argsort()[0].expand(len(observations))
            _, turned_log_probabilities, turned_entropy = policy.evaluate_actions(turned, image)
            assert torch.allclose(turned_log_probabilities, log_probabilities, atol=1e-5)
            assert torch.allclose(turned_entropy, entropy, atol=1e-5)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("method", ["equitune", "equizero"])
def test_with_the_trivial_group_nothing_changes(name: str, method: str) -> None:
    trivial = cyclic_group(1)
    model = _agent(name)
    symmetry = MDPSymmetry(
        "trivial",
        agent_symmetry(model, "grid-c4").observation.__class__(trivial, (3, 4, 4), torch.arange(48)[None]),  # type: ignore[call-arg]
        permutation_representation(trivial, [[0, 1, 2, 3]]),
    )
    symmetrized = symmetrize_agent(_agent(name), symmetry, method)  # a second one, with an environment of its own
    observations = torch.as_tensor(_observations())
    assert torch.allclose(action_scores(symmetrized)(observations), _plain_scores(model, observations), atol=1e-6)
    for agent in (model, symmetrized):
        agent.set_random_seed(3)
        agent.learn(64)
    assert torch.allclose(
        action_scores(symmetrized)(observations), _plain_scores(model, observations), atol=1e-4
    )  # SB3 itself trains the same network


def _plain_scores(model: BaseAlgorithm, observations: torch.Tensor) -> torch.Tensor:
    if isinstance(model, (PPO, A2C)):  # SB3 hands out normalised logits
        features = model.policy.extract_features(observations)
        with torch.no_grad():
            return model.policy.action_net(model.policy.mlp_extractor.forward_actor(features))
    return action_scores(model)(observations)


def test_from_scratch_by_the_same_arguments() -> None:
    observations = _observations()
    for name, (algorithm, policy_class, settings) in AGENTS.items():
        policy_kwargs = {**settings["policy_kwargs"], "symmetry": "grid-c4", "method": "lambda_equitune"}
        extractor: dict[str, Any] = {"features_extractor_class": "equirl.agents.GridCNN"}
        model = algorithm(
            policy_class,
            gym.make("equirl/GridWorld-v0", size=4),
            seed=0,
            device="cpu",
            **{**settings, "policy_kwargs": policy_kwargs | extractor},
        )
        start = {key: value.clone() for key, value in model.policy.state_dict().items() if "aggregator" in key}
        model.learn(100)
        assert _error(model, observations, "grid-c4") < 1e-5, name
        moved = [not torch.equal(value, model.policy.state_dict()[key]) for key, value in start.items()]
        assert any(moved), f"{name}: λ is not trained"


@pytest.mark.parametrize("name", ["dqn", "ppo"])
def test_features_extractors_and_their_settings_come_along(name: str) -> None:
    policy_kwargs = {
        "features_extractor_class": GridCNN,
        "features_extractor_kwargs": {"features_dim": 16},
        "net_arch": [8],
    }
    if name == "ppo":
        policy_kwargs["share_features_extractor"] = False
    model = _agent(name, policy_kwargs=policy_kwargs)
    symmetrized = symmetrize_agent(model, "grid-d4")
    assert isinstance(
        symmetrized.policy.features_extractor if name == "ppo" else symmetrized.q_net.features_extractor, GridCNN
    )
    assert _error(symmetrized, _observations()) < 1e-5


def test_further_training_goes_on_where_the_optimizer_was() -> None:
    model = _agent("dqn")
    symmetrized = symmetrize_agent(model, "grid-d4")
    ours, theirs = (agent.policy.optimizer.state_dict()["state"] for agent in (symmetrized, model))
    assert theirs
    assert all(torch.equal(ours[k]["exp_avg"], theirs[k]["exp_avg"]) for k in theirs)
    assert symmetrized.replay_buffer is model.replay_buffer
    assert symmetrized.num_timesteps == model.num_timesteps


def test_symmetrizing_draws_no_random_numbers_of_others() -> None:
    model = _agent("dqn")
    environment = model.get_env()
    assert environment is not None
    drawn = []
    for method in ("equitune", "lambda_equitune"):
        torch.manual_seed(5)
        np.random.seed(5)
        environment.seed(5)
        environment.reset()
        if method == "lambda_equitune":
            symmetrize_agent(model, "grid-d4", method, fit=LambdaFit(steps=3))
        drawn.append((torch.rand(1).item(), np.random.random(), environment.reset().tobytes()))
    assert drawn[0] == drawn[1]


def test_states_from_rollouts_and_from_the_replay_buffer() -> None:
    model = _agent("dqn")
    stored = replay_observations(model, 30)
    assert stored.shape == (30, 3, 4, 4)
    assert torch.equal(stored, replay_observations(model, 30))
    visited = rollout_observations(model, make_vec_env("equirl/GridWorld-v0", 3, env_kwargs={"size": 4}), 50)
    assert visited.shape == (50, 3, 4, 4)
    assert bool((visited[:, 0].flatten(1).sum(dim=1) == 1).all())


def test_frame_stacks_are_carried_through() -> None:
    environments = VecFrameStack(make_vec_env("CartPole-v1", 2), 3)
    model = DQN("MlpPolicy", environments, device="cpu", seed=0)
    symmetrized = symmetrize_agent(model, "cartpole-z2")
    observations = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32)
    assert _error(symmetrized, observations, "cartpole-z2") < 1e-5
    assert torch.equal(
        agent_symmetry(model, "cartpole-z2").observation.sign[1],
        -torch.ones(12),  # type: ignore[union-attr]
    )
    swinger = SAC("MlpPolicy", VecFrameStack(make_vec_env("Pendulum-v1", 2), 3), device="cpu", seed=0, buffer_size=10)
    stacked = symmetrize_agent(swinger, "pendulum-z2")
    states = torch.randn(20, 9)
    mirrored = states * torch.tensor([1.0, -1, -1]).repeat(3)
    moved = [stacked.predict(each.numpy(), deterministic=True)[0] for each in (states, mirrored)]
    assert np.abs(moved[0] + moved[1]).max() < 1e-5 < np.abs(moved[0]).max()
    images = VecFrameStack(make_vec_env("equirl/GridWorld-v0", 1, env_kwargs={"size": 4}), 2, channels_order="first")
    seen = agent_symmetry(PPO("MlpPolicy", images, device="cpu"), "grid-d4")
    assert seen.observation.shape == (6, 4, 4)
    with pytest.raises(ValueError, match=r"observation space has \[12\]"):
        agent_symmetry(model, agent_symmetry(_cartpole(), "cartpole-z2"))


def _cartpole(**kwargs: Any) -> DQN:
    return DQN("MlpPolicy", "CartPole-v1", device="cpu", seed=0, buffer_size=100, **kwargs)


def test_frames_of_a_stack_move_alike() -> None:
    mirror = cyclic_group(2)
    one = MDPSymmetry(
        "one",
        signed_permutation_representation(mirror, [[0, 1], [1, 0]], [[1, 1], [1, 1]]),
        permutation_representation(mirror, [[0, 1], [1, 0]]),
    )
    frames = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]])
    assert stack_frames(one, 3).observation.transform(1, frames).tolist() == [[2, 1, 4, 3, 6, 5]]


def test_normalised_observations_only_with_symmetric_statistics() -> None:
    environments = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
    model = PPO("MlpPolicy", environments, n_steps=64, device="cpu", seed=0).learn(256)
    with pytest.raises(
        ValueError, match=r"normalised by VecNormalize, whose statistics are not symmetric: coordinate \d"
    ):
        symmetrize_agent(model, "cartpole-z2")
    before = environments.obs_rms.var + environments.obs_rms.mean**2
    symmetrize_statistics(environments, "cartpole-z2")
    assert np.allclose(environments.obs_rms.mean, 0)
    assert np.allclose(environments.obs_rms.var, before)
    symmetrized = symmetrize_agent(model, "cartpole-z2")
    raw = np.random.default_rng(0).normal(size=(30, 4))
    actions, mirrored = (
        symmetrized.predict(environments.normalize_obs(signs * raw), deterministic=True)[0] for signs in (1, -1)
    )
    assert np.array_equal(mirrored, 1 - actions)
    stacked = VecFrameStack(environments, 2)
    symmetrize_agent(PPO("MlpPolicy", stacked, n_steps=64, device="cpu"), "cartpole-z2")
    without = PPO("MlpPolicy", VecNormalize(make_vec_env("CartPole-v1", 2), norm_obs=False), n_steps=64, device="cpu")
    symmetrize_agent(without, "cartpole-z2")  # rewards may be normalised


class _OwnPolicy(EquivariantDQNPolicy.__mro__[2]):  # type: ignore[misc]
    """A DQN policy that someone changed."""


def test_mistakes_are_told() -> None:
    model = _agent("dqn", 0)
    with pytest.raises(ValueError, match="equivariant already"):
        symmetrize_agent(symmetrize_agent(model, "grid-d4"), "grid-d4")
    with pytest.raises(ValueError, match="symmetry 'grid-d5' is unknown"):
        symmetrize_agent(model, "grid-d5")
    with pytest.raises(ValueError, match="method 'equitun' is unknown"):
        symmetrize_agent(model, "grid-d4", "equitun")
    with pytest.raises(ValueError, match=r"acts on images \[C, H, W\]"):
        symmetrize_agent(_cartpole(), "grid-d4")
    with pytest.raises(ValueError, match=r"acts on observations \[6\], but the observation space has \[4\]"):
        symmetrize_agent(_cartpole(), "acrobot-z2")
    with pytest.raises(ValueError, match="has no replay buffer with states in it: load the one it was trained with"):
        symmetrize_agent(_agent("ppo", 0), "grid-d4", "lambda_equitune")
    with pytest.raises(TypeError, match="moves the actions of a Discrete space"):
        symmetrize_agent(PPO("MlpPolicy", "Pendulum-v1", device="cpu"), "cartpole-z2")
    with pytest.raises(TypeError, match="ARS with ARSPolicy cannot be symmetrized; agents of A2C, DQN, PPO"):
        symmetrize_agent(ARS("MlpPolicy", "CartPole-v1", device="cpu"), "cartpole-z2")
    with pytest.raises(TypeError, match="DQN with _OwnPolicy cannot be symmetrized"):
        symmetrize_agent(DQN(_OwnPolicy, "CartPole-v1", device="cpu", buffer_size=10), "cartpole-z2")
    with pytest.raises(ValueError, match="the agent's method is 'equitune', which has no λ"):
        fit_lambda(symmetrize_agent(model, "grid-d4"), torch.as_tensor(_observations()))
    with pytest.raises(TypeError, match="DQNPolicy is not equivariant"):
        fit_lambda(model, torch.as_tensor(_observations()))
    with pytest.raises(ValueError, match="λ is fitted on 5 states; at least 10"):
        symmetrize_agent(model, "grid-d4", "lambda_equitune", observations=torch.as_tensor(_observations()[:5]))
    with pytest.raises(ValueError, match="objective 'copy' is unknown"):
        LambdaFit(objective="copy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holdout is a finite number"):
        LambdaFit(holdout=1.5)
    with pytest.raises(ValueError, match=r"visited states .* are needed; got none"):
        Novelty(torch.zeros(0, 4))
    with pytest.raises(TypeError, match="needs the Q-network of DQN; PPO has none"):
        symmetrize_agent(_agent("ppo", 0), "grid-d4", "equizero", {"proxy_loss": "target_disagreement"})


assert SIZE == 5


def test_frames_of_images_stack_where_sb3_stacks_them() -> None:
    # GridWorld's images of 0 and 1 are no images to SB3, which then stacks along the last axis.
    environments = VecFrameStack(make_vec_env("equirl/GridWorld-v0", 1, env_kwargs={"size": 4}), 2)
    assert environments.observation_space.shape == (3, 4, 8)
    model = DQN("MlpPolicy", environments, device="cpu", buffer_size=100)
    symmetry = agent_symmetry(model, "grid-d4")
    one = build_symmetry("grid-d4", (3, 4, 4), 4)
    first, second = torch.rand(2, 5, 3, 4, 4)
    stacked = torch.cat([first, second], dim=3)
    for g in range(8):
        expected = torch.cat([one.observation.transform(g, first), one.observation.transform(g, second)], dim=3)
        assert torch.equal(symmetry.observation.transform(g, stacked), expected)
    with pytest.raises(ValueError, match="have no axis 3"):
        stack_frames(one, 2, axis=3)


def test_normalised_agents_are_asked_about_what_they_saw() -> None:
    environments = VecNormalize(make_vec_env("CartPole-v1", 1, seed=0))
    model = DQN("MlpPolicy", environments, device="cpu", learning_starts=10, seed=0)
    model.learn(200)
    seen = environments.normalize_obs(model.replay_buffer.observations[: model.replay_buffer.size(), 0])
    drawn = replay_observations(model, n_states=50)
    distances = torch.cdist(drawn, torch.as_tensor(seen, dtype=torch.float32))
    assert distances.min(dim=1).values.max() < 5e-3  # cdist's own round-off


def test_discrete_observations_are_fitted_too() -> None:
    class Line(gym.Env):
        observation_space, action_space = gym.spaces.Discrete(7), gym.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):  # noqa: ANN001, ANN202
            super().reset(seed=seed)
            self.cell = int(self.np_random.integers(7))
            return self.cell, {}

        def step(self, action):  # noqa: ANN001, ANN202
            self.cell = min(6, max(0, self.cell + (1 if action else -1)))
            return self.cell, float(self.cell == 3), self.cell == 3, False, {}

    mirror = cyclic_group(2)
    line = MDPSymmetry(
        "line",
        TokenRepresentation(mirror, [list(range(7)), list(range(6, -1, -1))], ()),
        permutation_representation(mirror, [[0, 1], [1, 0]]),
    )
    model = DQN("MlpPolicy", Line(), device="cpu", learning_starts=20, seed=0)
    model.learn(100)
    fitted = symmetrize_agent(model, line, "lambda_equitune", fit=LambdaFit(steps=5))
    observations = torch.arange(7)
    assert equivariance_error(fitted.q_net, line.observation, line.action, observations) < 1e-5
    for buffer in ({"replay_buffer_class": SymmetryReplayBuffer, "replay_buffer_kwargs": {"symmetry": line}},):
        DQN("MlpPolicy", Line(), device="cpu", learning_starts=20, seed=0, **buffer).learn(60)
    PPO(
        "MlpPolicy", Line(), device="cpu", n_steps=32, batch_size=32, n_epochs=1,
        rollout_buffer_class=SymmetryRolloutBuffer, rollout_buffer_kwargs={"symmetry": line},
    ).learn(32)  # fmt: skip
