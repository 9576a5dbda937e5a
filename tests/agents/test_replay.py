import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, CrossQ
from small_worlds import KINDS, World, mirror, policy_name
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from equirl.agents import SymmetryReplayBuffer, replay_observations
from equirl.agents.observations import as_observations
from equirl.agents.visited_states import buffer_rows
from equirl.envs import GridWorldEnv
from equirl.orbit import flatten_rows
from equirl.symmetry import build_symmetry


def _filled(copies: str, symmetry: str = "grid-d4") -> SymmetryReplayBuffer:
    environment = GridWorldEnv(size=4)
    buffer = SymmetryReplayBuffer(
        200, environment.observation_space, environment.action_space, device="cpu", symmetry=symmetry, copies=copies
    )
    observation, _ = environment.reset(seed=0)
    random = np.random.default_rng(0)
    for _ in range(150):
        action = int(random.integers(4))
        following, reward, terminated, truncated, _ = environment.step(action)
        buffer.add(observation, following, np.array([[action]]), np.array([reward]), np.array([terminated]), [{}])
        observation = environment.reset()[0] if terminated or truncated else following
    return buffer


@pytest.mark.parametrize("copies", ["random", "all"])
@pytest.mark.parametrize("symmetry", ["grid-c4", "grid-d4"])
def test_what_it_hands_out_are_transitions_of_the_environment(copies: str, symmetry: str) -> None:
    buffer = _filled(copies, symmetry)
    order = buffer.symmetry.group.order
    samples = buffer.sample(30)
    assert len(samples.observations) == (30 * order if copies == "all" else 30)
    environment = GridWorldEnv(size=4)
    for observation, action, following, reward in zip(
        samples.observations, samples.actions, samples.next_observations, samples.rewards, strict=True
    ):
        agent, goal = (tuple(int(i) for i in np.argwhere(observation[c].numpy())[0]) for c in (0, 1))
        environment.reset(seed=0, options={"agent": agent, "goal": goal})
        expected, expected_reward, *_ = environment.step(int(action))
        assert np.array_equal(expected, following.numpy())
        assert expected_reward == float(reward)


def test_all_copies_are_the_whole_orbit_and_random_ones_reach_all_of_it() -> None:
    whole = _filled("all").sample(5)
    first = whole.observations[:8]
    symmetry = _filled("all").symmetry
    assert torch.equal(symmetry.observation.orbit(first[:1])[0], first)
    assert torch.equal(whole.rewards[:8], whole.rewards[:1].expand(8, 1))

    buffer = _filled("random")
    corners = [np.argwhere(o[1].numpy())[0] for o in buffer.sample(400).observations]
    stored = {tuple(np.argwhere(o[0, 1])[0]) for o in buffer.observations[:150]}
    assert len({tuple(corner) for corner in corners}) > len(stored) / 2


def test_it_trains_plain_dqn() -> None:
    settings: dict[str, Any] = {"learning_starts": 20, "buffer_size": 300, "device": "cpu", "seed": 0}
    for copies in ("random", "all"):
        model = DQN(
            "MlpPolicy",
            gym.make("equirl/GridWorld-v0"),
            replay_buffer_class=SymmetryReplayBuffer,
            replay_buffer_kwargs={"symmetry": "grid-d4", "copies": copies},
            **settings,
        )
        model.learn(60)
        assert isinstance(model.replay_buffer, SymmetryReplayBuffer)


@pytest.mark.parametrize("copies", ["random", "all"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_observations_are_moved(kind: str, copies: str) -> None:
    """What is handed out are transforms of what was stored; the mirror image of a transition has the other action."""
    model = DQN(
        policy_name(kind), make_vec_env(lambda: World(kind), 2), buffer_size=200, learning_starts=20, device="cpu",
        seed=0, replay_buffer_class=SymmetryReplayBuffer,
        replay_buffer_kwargs={"symmetry": mirror(kind), "copies": copies},
    ).learn(60)  # fmt: skip
    buffer = model.replay_buffer
    assert isinstance(buffer, SymmetryReplayBuffer)
    states = as_observations(
        buffer_rows(buffer, *np.divmod(np.arange(2 * buffer.size()), 2)), buffer.observation_space, "cpu"
    )
    images = flatten_rows(mirror(kind).observation.transform(1, states))
    known = {
        (*row, action)
        for rows, swapped in ((flatten_rows(states), 0), (images, 1))
        for row, action in zip(rows.tolist(), (buffer.actions[: buffer.size()].ravel() ^ swapped).tolist(), strict=True)
    }
    samples = buffer.sample(40)
    handed = flatten_rows(as_observations(samples.observations, buffer.observation_space, "cpu"))
    found = [(*row, int(action)) for row, action in zip(handed.tolist(), samples.actions, strict=True)]
    assert len(found) == (80 if copies == "all" else 40)
    assert set(found) <= known
    assert len(set(found)) > 4  # MultiBinary(2) has eight of them
    restored = pickle.loads(pickle.dumps(buffer))
    assert type(restored) is type(buffer)
    assert len(restored.sample(5).actions) == len(buffer.sample(5).actions)


@pytest.mark.parametrize("kind", ["box", "dict"])
def test_the_group_acts_before_normalisation(kind: str) -> None:
    """With statistics that are not symmetric the two orders differ: right is to normalise what the group gives."""
    normalize = VecNormalize(
        make_vec_env(lambda: World(kind), 1), training=False, norm_obs_keys=["x"] * (kind == "dict") or None
    )
    statistics: Any = normalize.obs_rms["x"] if isinstance(normalize.obs_rms, dict) else normalize.obs_rms
    statistics.mean, statistics.var = np.array([0.5, -0.3]), np.array([0.2, 0.7])
    normalize.ret_rms.var = np.array(4.0)
    space = World(kind).observation_space
    buffer = SymmetryReplayBuffer(10, space, spaces.Discrete(2), device="cpu", symmetry=mirror(kind), copies="all")
    state, following = ({"x": np.array([[a, 0.4]]), "place": np.array([1])} for a in (0.1, 0.2))
    if kind == "box":
        state, following = state["x"], following["x"]  # type: ignore[assignment]
    buffer.add(state, following, np.array([0]), np.array([1.0]), np.array([0.0]), [{}])  # type: ignore[arg-type]
    samples: Any = buffer.sample(1, env=normalize)
    seen = samples.observations["x"] if kind == "dict" else samples.observations
    expected = [(sign * np.array([0.1, 0.4]) - statistics.mean) / np.sqrt(statistics.var + 1e-8) for sign in (1, -1)]
    assert np.allclose(seen, np.array(expected), atol=1e-5)
    assert np.allclose(samples.rewards, 0.5, atol=1e-4)
    if kind == "dict":
        assert samples.observations["place"].tolist() == [[1], [4]]


def test_n_step_returns_are_those_of_sb3() -> None:
    both: list[Any] = []
    for buffer_class, settings in ((NStepReplayBuffer, {}), (SymmetryReplayBuffer, {"symmetry": mirror("box")})):
        space = World("box").observation_space
        buffer = buffer_class(50, space, spaces.Discrete(2), device="cpu", n_steps=3, gamma=0.5, **settings)  # type: ignore[operator]
        random = np.random.default_rng(0)
        for k in range(40):
            state = random.uniform(-1, 1, (2, 1, 2))
            buffer.add(state[0], state[1], np.array([k % 2]), np.array([k]), np.array([k % 7 == 0]), [{}])
        np.random.seed(0)
        both.append(buffer.sample(20))
    stock, ours = both
    assert torch.equal(ours.rewards, stock.rewards)
    assert torch.equal(ours.discounts, stock.discounts)
    assert torch.equal(ours.observations.abs(), stock.observations.abs())
    assert not torch.equal(ours.observations, stock.observations)


def test_lean_buffers_work() -> None:
    settings: dict[str, Any] = {"handle_timeout_termination": False, "symmetry": "grid-d4"}
    model = DQN(
        "MlpPolicy", gym.make("equirl/GridWorld-v0", size=4), optimize_memory_usage=True, learning_starts=20,
        buffer_size=30, device="cpu", replay_buffer_class=SymmetryReplayBuffer, replay_buffer_kwargs=settings,
    )  # fmt: skip
    model.learn(60)
    assert len(replay_observations(model, 100)) == 30


def test_replayed_states_are_those_of_the_space() -> None:
    model = DQN("MultiInputPolicy", World("dict"), buffer_size=20, learning_starts=5, device="cpu").learn(30)
    states: Any = replay_observations(model, 15)
    assert (states["x"].shape, states["place"].shape) == ((15, 2), (15,))
    for n_states in (0, -1):
        with pytest.raises(ValueError, match=f"n_states must be a whole number from 1; got {n_states}"):
            replay_observations(model, n_states)
    other = DQN("MlpPolicy", World("box"), buffer_size=20, learning_starts=5, device="cpu").learn(10)
    model.replay_buffer = other.replay_buffer
    with pytest.raises(TypeError, match="observations of a Dict space are a dict"):
        replay_observations(model, 5)


def test_mistakes_are_named() -> None:
    dict_space = World("dict").observation_space
    for wrong, message in (
        ({"n_steps": 3}, "no n-step replay buffer for Dict observations"),
        ({"optimize_memory_usage": True}, "no optimize_memory_usage for Dict observations"),
        ({"copies": "each"}, "copies 'each' is unknown"),
    ):
        with pytest.raises(ValueError, match=message):
            SymmetryReplayBuffer(10, dict_space, spaces.Discrete(2), symmetry=mirror("dict"), **wrong)
    for wrong, message in (
        ({"n_steps": 0}, "n_steps must be a whole number from 1; got 0"),
        ({"n_steps": 2, "gamma": float("nan")}, "gamma is a finite number"),
        ({"n_steps": 2, "optimize_memory_usage": True}, "no optimize_memory_usage with n_steps"),
    ):
        with pytest.raises(ValueError, match=message):
            SymmetryReplayBuffer(
                10, World("box").observation_space, spaces.Discrete(2), symmetry=mirror("box"), **wrong
            )
    with pytest.raises(ValueError, match=r"copies 'every' is unknown; known: all, random"):
        _filled("every")
    with pytest.raises(ValueError, match="symmetry 'grid-d5' is unknown"):
        _filled("all", "grid-d5")
    box = spaces.Box(0, 1, (3, 4, 4))
    with pytest.raises(TypeError, match="moves the actions of a Discrete space"):
        SymmetryReplayBuffer(10, box, spaces.Box(-1, 1, (2,)), symmetry="grid-d4")


@pytest.mark.parametrize("algorithm", [QRDQN, TQC, CrossQ])
def test_algorithms_that_count_on_the_size_of_a_batch_refuse_all_copies(algorithm: Any) -> None:
    world, symmetry = ("CartPole-v1", "cartpole-z2") if algorithm is QRDQN else ("Pendulum-v1", "pendulum-z2")
    settings: dict[str, Any] = {"replay_buffer_class": SymmetryReplayBuffer, "buffer_size": 100, "device": "cpu"}
    with pytest.raises(ValueError, match=f"{algorithm.__name__} counts on batch_size rows: take copies='random'"):
        algorithm("MlpPolicy", world, replay_buffer_kwargs={"symmetry": symmetry, "copies": "all"}, **settings)
    settings |= {"learning_starts": 10, "batch_size": 4, "policy_kwargs": {"net_arch": [8]}}
    algorithm("MlpPolicy", world, replay_buffer_kwargs={"symmetry": symmetry}, **settings).learn(20)


def test_the_users_symmetry_stays_on_its_device() -> None:
    symmetry = build_symmetry("grid-c4", (3, 4, 4), 4)
    space = spaces.Box(0, 1, (3, 4, 4), np.uint8)
    buffer = SymmetryReplayBuffer(10, space, spaces.Discrete(4), device="cpu", symmetry=symmetry)
    buffer.symmetry.observation.to("meta")  # as the buffer does for the device it is given
    assert symmetry.observation.index.device.type == "cpu"
