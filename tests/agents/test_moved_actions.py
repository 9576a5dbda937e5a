"""Augmentation of any action: what buffers hand out is ``(gs, ga)``, by the law that the checker knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from continuous import SWAP, SWAPPED, TwoArms, make
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.envs import BitFlippingEnv

from equirl import (
    MappingRepresentation,
    MDPSymmetry,
    permutation_representation,
    signed_permutation_representation,
)
from equirl.agents import (
    SymmetryHerReplayBuffer,
    SymmetryMaskableRolloutBuffer,
    SymmetryReplayBuffer,
    SymmetryRolloutBuffer,
)
from equirl.agents.moved_actions import MovedActions
from equirl.envs.actions import ActionLayout

SPACES: dict[str, tuple[Any, Any]] = {
    "discrete": (spaces.Discrete(3), permutation_representation(SWAP, [[0, 1, 2], [1, 0, 2]])),
    "multi-discrete": (
        spaces.MultiDiscrete([2, 2, 3]),
        permutation_representation(SWAP, [[0, 1, 2, 3, 4, 5, 6], [2, 3, 0, 1, 6, 5, 4]]),
    ),
    "bits": (
        spaces.MultiBinary(3),
        signed_permutation_representation(SWAP, [[0, 1, 2], [1, 0, 2]], [[1, 1, 1], [1, 1, -1]]),
    ),
    "box": (spaces.Box(-1, 1, (3,), np.float32), SWAPPED.action),
}


@pytest.mark.parametrize("kind", SPACES)
def test_stored_actions_move_as_the_checker_moves_them(kind: str) -> None:
    space, representation = SPACES[kind]
    symmetry = MDPSymmetry("s", SWAPPED.observation, representation)
    layout, random = ActionLayout(space), np.random.default_rng(0)
    actions = [layout.draw(random) for _ in range(30)]
    elements = torch.as_tensor(random.integers(2, size=30))
    stored = torch.as_tensor(np.array(actions, dtype=np.float32).reshape(30, -1))
    moved = MovedActions(space, symmetry)(elements, stored)
    expected = [layout.image(symmetry, int(g), a) for g, a in zip(elements, actions, strict=True)]
    assert torch.equal(moved, torch.as_tensor(np.array(expected, dtype=np.float32).reshape(30, -1)))
    assert not torch.equal(moved, stored)


def test_a_replay_buffer_hands_out_moved_transitions() -> None:
    agent = make("sac", None, replay_buffer_class=SymmetryReplayBuffer, replay_buffer_kwargs={"symmetry": SWAPPED})
    agent.learn(60)
    held = agent.replay_buffer
    rows = held.sample(64)
    states, actions = torch.as_tensor(held.observations[:60, 0]), torch.as_tensor(held.actions[:60, 0])
    both: Any = SWAPPED.observation.orbit(states), SWAPPED.action.orbit(actions)
    moved = 0
    for state, action, reward in zip(rows.observations, rows.actions, rows.rewards, strict=True):
        step, g = ((both[0] - state).abs().amax(dim=2) < 1e-6).nonzero()[0].tolist()
        assert torch.allclose(both[1][step, g], action)
        assert float(reward) == pytest.approx(float(held.rewards[step, 0]))
        moved += g != 0
    assert 10 < moved < 54


def test_on_policy_rollouts_are_moved() -> None:
    agent = PPO("MlpPolicy", TwoArms(), n_steps=32, device="cpu", rollout_buffer_class=SymmetryRolloutBuffer,
                rollout_buffer_kwargs={"symmetry": SWAPPED})  # fmt: skip
    agent.learn(32)
    (rows,) = agent.rollout_buffer.get()
    states = torch.as_tensor(agent.rollout_buffer.observations)
    same = (rows.observations[:, None] - states[None]).abs().amax(dim=2).amin(dim=1) < 1e-6
    assert 3 < int(same.sum()) < 29


class _Bits(BitFlippingEnv):
    """SB3's bits with a goal; the flips are the numbers of an action."""

    def __init__(self) -> None:
        super().__init__(n_bits=4, continuous=True, max_steps=4)


def test_hindsight_goals_are_moved_with_everything_else() -> None:
    swap = permutation_representation(SWAP, [[0, 1, 2, 3], [1, 0, 2, 3]])
    symmetry = MDPSymmetry(
        "bits", MappingRepresentation({key: swap for key in ("observation", "achieved_goal", "desired_goal")}), swap
    )
    agent = SAC("MultiInputPolicy", _Bits(), learning_starts=10, buffer_size=200, device="cpu", seed=0, batch_size=16,
                replay_buffer_class=SymmetryHerReplayBuffer,
                replay_buffer_kwargs={"symmetry": symmetry, "n_sampled_goal": 4})  # fmt: skip
    agent.learn(60)
    assert isinstance(agent.replay_buffer, SymmetryHerReplayBuffer)
    rows: Any = agent.replay_buffer.sample(200)
    reached = (rows.next_observations["achieved_goal"] == rows.next_observations["desired_goal"]).all(dim=1)
    # The reward is that of the goal that was put in: 0 where it is reached, -1 elsewhere.
    assert torch.equal(rows.rewards.flatten() == 0, reached)
    assert 0 < int(reached.sum()) < 200


def test_masks_of_bits_move_with_their_values() -> None:
    space, representation = SPACES["bits"]
    symmetry = MDPSymmetry("s", SWAPPED.observation, representation)
    buffer = SymmetryMaskableRolloutBuffer(8, spaces.Box(-9, 9, (5,)), space, device="cpu", symmetry=symmetry)
    random = np.random.default_rng(0)
    rows = []
    for _ in range(8):
        state, action = random.normal(size=(1, 5)).astype(np.float32), random.integers(2, size=(1, 3))
        mask = np.ones((1, 6), dtype=bool)
        mask[0, 2 * np.arange(3) + 1 - action[0]] = random.random(3) < 0.5  # what was taken is legal
        buffer.add(state, action, np.zeros(1), np.zeros(1), torch.zeros(1), torch.zeros(1), action_masks=mask)
        rows.append((state[0], action[0], mask[0]))
    buffer.compute_returns_and_advantage(torch.zeros(1), np.zeros(1))
    (moved,) = buffer.get()
    for state, action, mask in zip(moved.observations, moved.actions.long(), moved.action_masks.bool(), strict=True):
        taken = mask.view(3, 2).gather(1, action.unsqueeze(1))
        assert bool(taken.all())
        before = [np.sort(np.abs(each[0])) for each in rows]
        place = int(np.argmin([np.abs(each - np.sort(state.abs().numpy())).max() for each in before]))
        assert int(mask.sum()) == int(rows[place][2].sum())
