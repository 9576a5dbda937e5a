"""An agent that knows its way to goals in one quadrant only, made by regression in seconds, for tests."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN

from equirl.envs import MOVES, region_cells
from equirl.envs.gridworld_states import GridWorldStates

SIZE = 5
GAMMA = 0.9


def states() -> tuple[GridWorldStates, np.ndarray]:
    """Return all states and which of them have their goal in the north-west quadrant."""
    every = GridWorldStates(SIZE)
    return every, np.isin(every.goals, region_cells("north-west", SIZE))


def specialist(seed: int = 0) -> DQN:
    """Return a DQN whose Q-network is fitted to the true values of states with goals in the north-west."""
    environment = gym.make("equirl/GridWorld-v0", size=SIZE, goal="north-west")
    model = DQN("MlpPolicy", environment, policy_kwargs={"net_arch": [64, 64]}, seed=seed, device="cpu", gamma=GAMMA)
    every, known = states()
    observations = every.observations[known]
    agent, goal = (observations[:, channel].reshape(len(observations), -1).argmax(axis=1) for channel in (0, 1))
    places = np.stack([agent // SIZE, agent % SIZE], axis=1)[:, None, :] + MOVES
    places = places.clip(0, SIZE - 1)
    distance = np.abs(places - np.stack([goal // SIZE, goal % SIZE], axis=1)[:, None, :]).sum(axis=2)
    values = torch.as_tensor(GAMMA**distance, dtype=torch.float32)
    inputs = torch.as_tensor(observations)
    optimizer = torch.optim.Adam(model.q_net.parameters(), lr=3e-3)
    for _ in range(400):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model.q_net(inputs), values).backward()
        optimizer.step()
    model.q_net_target.load_state_dict(model.q_net.state_dict())
    buffer = model.replay_buffer
    assert buffer is not None
    random = np.random.default_rng(seed)
    for k in random.permutation(len(observations)):
        action = int(random.integers(4))
        cell = places[k, action]
        after = observations[k].copy()
        after[0] = 0
        after[0, cell[0], cell[1]] = 1
        done = bool((cell == [goal[k] // SIZE, goal[k] % SIZE]).all())
        buffer.add(
            observations[k][None], after[None], np.array([action]), np.array([float(done)]), np.array([done]), [{}]
        )
    return model


def rates(model: DQN) -> tuple[float, float]:
    """Return success with goals in the known quadrant and elsewhere."""
    every, known = states()
    successes = every.successes(model)
    return float(successes[known].mean()), float(successes[~known].mean())


__all__ = ["SIZE", "rates", "specialist", "states"]
