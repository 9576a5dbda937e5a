"""Measuring without side effects: what is looked at stays as it was, and equal seeds give equal measurements."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecNormalize

from equirl.agents.sb3_doors import forget_last_observation
from equirl.agents.vector_env import GridWorldVecEnv
from equirl.testing import evaluation_mode

__all__ = ["measurement"]


@contextmanager
def measurement(model: BaseAlgorithm, environments: VecEnv, seed: int) -> Iterator[None]:
    """Seed everything that a rollout draws from; on leaving, with or without an error, put it back.

    That is: the global random numbers of Python, NumPy and torch, the environments' own ones, and those of their
    spaces. Inside, the policy is in evaluation mode, running normalisations (``VecNormalize`` and Gymnasium's
    ``NormalizeObservation`` and ``NormalizeReward``) keep their statistics, and ``VecNormalize`` leaves rewards as they
    are.

    The state of an episode cannot be put back: reset the environments afterwards. Stable-Baselines3 does so itself with
    the agent's own environment before it trains on. Of environments in other processes (``SubprocVecEnv``) only the
    seeds of the resets are reached.

    Args:
        model: The agent that is measured.
        environments: Where it is measured.
        seed: The seed; environment ``i`` is reset with ``seed + i``.
    """
    owners = _owners(environments)
    own = model.get_env()
    shared = own is not None and not {id(owner) for owner in owners}.isdisjoint(id(owner) for owner in _owners(own))
    with ExitStack() as stack:
        stack.enter_context(evaluation_mode(model.policy))
        stack.enter_context(_global_random_numbers(model.device, seed))
        stack.enter_context(_own_random_numbers([*owners, model], seed))
        stack.enter_context(_frozen_statistics(owners))
        environments.seed(seed)
        try:
            yield
        finally:
            if shared:
                forget_last_observation(model)


def _owners(environments: VecEnv) -> list[Any]:
    """Return every environment and wrapper that this process holds, the outermost first."""
    owners: list[Any] = [environments]
    while isinstance(owners[-1], VecEnvWrapper):
        owners.append(owners[-1].venv)
    base = owners[-1]
    if isinstance(base, GridWorldVecEnv):
        owners += [base.batch, base.batch.single]
    for environment in getattr(base, "envs", []):
        owners.append(environment)
        while isinstance(owners[-1], gym.Wrapper):
            owners.append(owners[-1].env)
    return owners


@contextmanager
def _global_random_numbers(device: torch.device, seed: int) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    cuda = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=cuda):
            torch.default_generator.manual_seed(seed)
            for each in cuda:
                with torch.cuda.device(each):
                    torch.cuda.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _own_random_numbers(owners: Sequence[Any], seed: int) -> Iterator[None]:
    """Seed the generators and spaces that objects hold, and put the same generators back in the same state."""
    attributes: list[tuple[dict[str, Any], str, Any]] = []
    generators: dict[int, Any] = {}
    found_spaces: dict[int, spaces.Space[Any]] = {}
    for owner in owners:
        for name, value in getattr(owner, "__dict__", {}).items():
            listed = value if isinstance(value, (list, tuple)) else [value]
            drawn = [each for each in listed if isinstance(each, _GENERATORS)]
            generators |= {id(each): each for each in drawn}
            if drawn or name in ("_np_random", "_np_random_seed", "_seeds", "_options"):
                attributes.append((vars(owner), name, list(value) if isinstance(value, list) else value))
        if isinstance(owner, gym.Env) and not isinstance(owner, gym.Wrapper):
            absent = {"_np_random", "_np_random_seed"} - vars(owner).keys()
            attributes += [(vars(owner), name, None) for name in absent]
        for name in ("action_space", "observation_space"):
            found_spaces |= {id(space): space for space in _with_parts(getattr(owner, name, None))}
    for space in found_spaces.values():
        attributes.append((vars(space), "_np_random", vars(space).get("_np_random")))
        if isinstance(space._np_random, np.random.Generator):
            generators[id(space._np_random)] = space._np_random
    states = [(generator, _state(generator)) for generator in generators.values()]
    try:
        for k, generator in enumerate(generators.values()):
            _seed(generator, seed + k)
        for space in found_spaces.values():
            space.seed(seed)
        yield
    finally:
        for owner in owners:
            if isinstance(owner, GridWorldVecEnv):  # it holds starts that were drawn ahead
                for i in range(owner.num_envs):
                    owner.batch.seed(i, None)
        for holder, name, value in attributes:
            holder[name] = value
        for generator, state in states:
            _set_state(generator, state)


_GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)


def _with_parts(space: Any) -> list[spaces.Space[Any]]:
    """Return a space and, of a composite one, all its parts."""
    if not isinstance(space, spaces.Space):
        return []
    found = [space]
    for value in vars(space).values():
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else [value]
        for part in parts:
            found += _with_parts(part)
    return found


def _seed(generator: Any, seed: int) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = type(generator.bit_generator)(seed).state
    else:
        generator.seed(seed % 2**32)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state() if isinstance(generator, np.random.RandomState) else generator.getstate()


def _set_state(generator: Any, state: Any) -> None:
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    elif isinstance(generator, np.random.RandomState):
        generator.set_state(state)
    else:
        generator.setstate(state)


@contextmanager
def _frozen_statistics(owners: Sequence[Any]) -> Iterator[None]:
    kept: list[tuple[Any, dict[str, Any]]] = []
    for owner in owners:
        if isinstance(owner, VecNormalize):
            names = ("training", "norm_reward", "returns", "old_reward", "old_obs")
            kept.append((owner, {name: vars(owner)[name] for name in names if name in vars(owner)}))
            owner.returns = owner.returns.copy()  # SB3 changes it in place
            owner.training = owner.norm_reward = False
        elif isinstance(owner, (NormalizeObservation, NormalizeReward)):
            kept.append((owner, {"update_running_mean": owner.update_running_mean}))
            owner.update_running_mean = False
    try:
        yield
    finally:
        for owner, values in kept:
            for name, value in values.items():
                setattr(owner, name, value)
