"""Transitions of an environment under random actions, or under an agent's actions mixed with random ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from equirl.arguments import whole_number
from equirl.envs.actions import ActionLayout
from equirl.envs.observations import ObservationLayout

__all__ = ["Transitions", "collect_transitions"]

_RANDOM_SHARE = 0.5  # share of random actions if an agent is given, so that every action is tried


@dataclass(frozen=True)
class Transitions:
    """Steps of an environment, in the order in which they were taken.

    Attributes:
        states: Observations before each step as policies see them, flat: ``[N, n]``, float64.
        actions: ``Discrete`` actions counted from 0, ``[N]`` int64; ``Box`` actions ``[N, m]`` float64.
        next_states: Observations after each step, ``[N, n]``.
        rewards: ``[N]``.
        ends: Whether the step terminated the episode, ``[N]`` bool; or cut it, unless all cuts come at one step count,
            as those of a time limit do.
        times: Steps of the episode before this one, ``[N]``.
        n_actions: Number of ``Discrete`` actions; 0 for ``Box``.
        shape: Shape of one observation as policies see it; ``()`` for ``Discrete``.
    """

    states: NDArray[np.float64]
    actions: NDArray[Any]
    next_states: NDArray[np.float64]
    rewards: NDArray[np.float64]
    ends: NDArray[np.bool_]
    times: NDArray[np.int64]
    n_actions: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.rewards)


def collect_transitions(
    environment: gym.Env[Any, Any], steps: int, seed: int = 0, agent: Callable[[Any], Any] | None = None
) -> Transitions:
    """Return transitions of an environment.

    Args:
        environment: ``Discrete`` or ``Box`` actions; observations ``Box`` or ``Discrete``.
        steps: Number of steps, at least 1.
        seed: Seed of the environment and of the actions.
        agent: From an observation to an action, both as the environment knows them; it takes half of the actions, the
            other half is random. By default all are random.

    Raises:
        TypeError: Other spaces.
        ValueError: A reward or an observation is NaN or infinite.
    """
    whole_number(steps, "steps", 1)
    whole_number(seed, "seed", 0)
    actions, observations = environment.action_space, environment.observation_space
    if not isinstance(actions, (spaces.Discrete, spaces.Box)) or not isinstance(
        observations, (spaces.Box, spaces.Discrete)
    ):
        raise TypeError(
            f"symmetries are sought among Discrete or Box actions and Box or Discrete observations; got {actions} and "
            f"{observations}. gymnasium.wrappers.FlattenObservation makes one Box of a Dict"
        )
    layout, known = ObservationLayout(observations), ActionLayout(actions)
    random = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    cuts: list[bool] = []
    observation, time = environment.reset(seed=seed)[0], 0
    state = layout.vector(layout.show(observation))
    for _ in range(steps):
        if agent is None or random.random() < _RANDOM_SHARE:
            action = known.draw(random)
            taken = known.numbered(action)
        else:
            taken = agent(observation)
            action = known.counted(taken)
        observation, reward, terminated, truncated = _step(environment, taken)
        following = layout.vector(layout.show(observation))
        rows.append((state, action, following, reward, terminated, time))
        cuts.append(truncated and not terminated)
        state, time = following, time + 1
        if terminated or truncated:
            observation, time = environment.reset()[0], 0
            state = layout.vector(layout.show(observation))
    before, chosen, after, rewards, ends, times = zip(*rows, strict=True)
    if len({row[-1] for row, cut in zip(rows, cuts, strict=True) if cut}) > 1:
        ends = tuple(end or cut for end, cut in zip(ends, cuts, strict=True))
    n_actions = int(actions.n) if isinstance(actions, spaces.Discrete) else 0
    numbers = np.array(chosen) if n_actions else np.stack(chosen).reshape(len(chosen), -1).astype(np.float64)
    found = Transitions(
        *(np.stack(before), numbers, np.stack(after), np.array(rewards), np.array(ends), np.array(times)),
        n_actions,
        cast(tuple[int, ...], layout.shape),
    )
    if not all(np.isfinite(part).all() for part in (found.states, found.next_states, found.rewards)):
        raise ValueError("the environment gave observations or rewards that are NaN or infinite; mend it first")
    return found


def _step(environment: gym.Env[Any, Any], action: Any) -> tuple[Any, float, bool, bool]:
    """Take a step.

    Raises:
        ValueError: It does not give what Gymnasium's interface asks for.
    """
    outcome: Any = environment.step(action)
    try:
        observation, reward, terminated, truncated, _ = outcome
        return observation, float(reward), bool(terminated), bool(truncated)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"step() gives observation, reward, terminated, truncated and info; that of "
            f"{type(environment.unwrapped).__name__} does not ({error}). gymnasium.utils.env_checker.check_env finds "
            "such faults"
        ) from error
