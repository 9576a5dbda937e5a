from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import DQN

from equirl.agents import SymmetryReplayBuffer
from equirl.envs import GridWorldEnv
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


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match=r"copies 'every' is unknown; known: all, random"):
        _filled("every")
    with pytest.raises(ValueError, match="symmetry 'grid-d5' is unknown"):
        _filled("all", "grid-d5")
    box = spaces.Box(0, 1, (3, 4, 4))
    with pytest.raises(TypeError, match="permutes the actions of a Discrete space"):
        SymmetryReplayBuffer(10, box, spaces.Box(-1, 1, (2,)), symmetry="grid-d4")


def test_the_users_symmetry_stays_on_its_device() -> None:
    symmetry = build_symmetry("grid-c4", (3, 4, 4), 4)
    space = spaces.Box(0, 1, (3, 4, 4), np.uint8)
    buffer = SymmetryReplayBuffer(10, space, spaces.Discrete(4), device="cpu", symmetry=symmetry)
    buffer.symmetry.observation.to("meta")  # as the buffer does for the device it is given
    assert symmetry.observation.index.device.type == "cpu"
