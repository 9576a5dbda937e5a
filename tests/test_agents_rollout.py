from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO

from equirl import build_symmetry
from equirl.agents import SymmetryRolloutBuffer

SYMMETRY: dict[str, Any] = {"symmetry": "grid-d4"}


def _buffer(n_steps: int = 40) -> SymmetryRolloutBuffer:
    environment = gym.make("equirl/GridWorld-v0", size=4)
    buffer = SymmetryRolloutBuffer(
        n_steps, environment.observation_space, environment.action_space, device="cpu", **SYMMETRY
    )
    for seed in range(n_steps):
        observation, _ = environment.reset(seed=seed)
        buffer.add(
            observation[None], np.array([[seed % 4]]), np.array([seed]), np.zeros(1), torch.zeros(1), torch.zeros(1)
        )
    return buffer


def test_samples_are_transforms_of_what_was_stored_and_cover_the_group() -> None:
    buffer, symmetry = _buffer(), build_symmetry("grid-d4", (3, 4, 4), 4)
    stored = torch.as_tensor(buffer.observations[:, 0])
    elements = set()
    for samples in buffer.get(8):
        assert samples.actions.dtype == torch.float32 or not samples.actions.is_floating_point()
        for observation, action in zip(samples.observations, samples.actions.flatten().long(), strict=True):
            found = [
                (k, g)
                for g in range(8)
                for k in (stored == symmetry.observation.apply(int(symmetry.group.inverses[g]), observation[None]))
                .all(-1)
                .all(-1)
                .all(-1)
                .nonzero()
                .flatten()
                .tolist()
                if int((symmetry.action.index[g] == k % 4).nonzero()) == int(action)
            ]
            assert found
            elements |= {g for _, g in found}
    assert elements == set(range(8))


def test_ppo_trains_with_it() -> None:
    model = PPO(
        "MlpPolicy",
        gym.make("equirl/GridWorld-v0", size=4),
        n_steps=32,
        batch_size=32,
        device="cpu",
        rollout_buffer_class=SymmetryRolloutBuffer,
        rollout_buffer_kwargs=SYMMETRY,
    )
    before = model.policy.parameters_to_vector()
    model.learn(64)
    assert not np.array_equal(before, model.policy.parameters_to_vector())


def test_mistakes_are_told() -> None:
    spaces = gym.spaces
    with pytest.raises(TypeError, match="stores array observations"):
        SymmetryRolloutBuffer(4, spaces.Dict({"x": spaces.Discrete(2)}), spaces.Discrete(2), device="cpu", **SYMMETRY)
    with pytest.raises(TypeError, match="permutes the actions of a Discrete space"):
        SymmetryRolloutBuffer(4, spaces.Box(0, 1, (3, 4, 4)), spaces.Box(0, 1, (2,)), device="cpu", **SYMMETRY)
