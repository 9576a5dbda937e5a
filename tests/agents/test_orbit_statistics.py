"""Normalization by statistics of orbits: symmetric while they follow the visited states, and SB3's own at |G| = 1."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from continuous import SWAPPED, TwoArms
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize, sync_envs_normalization

from equirl import MDPSymmetry, cyclic_group, trivial_representation
from equirl.agents import EquivariantActorCriticPolicy, SymmetricVecNormalize
from equirl.agents.orbit_statistics import OrbitStatistics
from equirl.symmetry import stack_frames


def _environments() -> Any:
    return make_vec_env(TwoArms, 2, seed=0)


def _agent(environments: Any, **kwargs: Any) -> PPO:
    own = {"symmetry": SWAPPED, "method": "equitune", "net_arch": [16]}
    return PPO(
        EquivariantActorCriticPolicy, environments, n_steps=64, device="cpu", seed=0, policy_kwargs=own, **kwargs
    )


def test_statistics_are_those_of_all_transforms_together() -> None:
    random = np.random.default_rng(0)
    batches = [random.normal(1, 2, size=(20, 5)), random.normal(-3, 1, size=(7, 5))]
    ours = OrbitStatistics(SWAPPED.observation, (5,))  # type: ignore[arg-type]
    for batch in batches:
        ours.update(batch)
    samples = torch.as_tensor(np.concatenate(batches))
    orbit: Any = SWAPPED.observation.orbit(samples)
    everything = orbit.flatten(0, 1).numpy()
    assert np.allclose(ours.mean, everything.mean(axis=0), atol=1e-3)  # SB3's count begins at 1e-4
    assert np.allclose(ours.var, everything.var(axis=0), atol=1e-2)
    assert ours.count == pytest.approx(27, abs=1e-3)
    assert type(ours.copy()) is OrbitStatistics
    assert np.array_equal(ours.copy().mean, ours.mean)


def test_with_a_trivial_group_they_are_sb3s() -> None:
    ours = OrbitStatistics(trivial_representation(cyclic_group(1), (5,)), (5,))
    theirs = RunningMeanStd(shape=(5,))
    for seed in range(5):
        batch = np.random.default_rng(seed).normal(seed, 2, size=(8, 5))
        ours.update(batch)
        theirs.update(batch)
    assert np.array_equal(ours.mean, theirs.mean)
    assert np.array_equal(ours.var, theirs.var)


def test_the_whole_agent_is_equivariant_while_it_trains(tmp_path: Path) -> None:
    environments = SymmetricVecNormalize(_environments(), SWAPPED)
    agent = _agent(environments)
    agent.learn(300)
    states = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    moved = SWAPPED.observation.transform(1, torch.as_tensor(states)).numpy()  # type: ignore[union-attr]
    here, there = (agent.predict(environments.normalize_obs(each), deterministic=True)[0] for each in (states, moved))
    assert np.allclose(SWAPPED.action.transform(1, torch.as_tensor(here)).numpy(), there, atol=1e-5)
    assert environments.obs_rms.count > 290
    assert not np.allclose(environments.obs_rms.var, 1, atol=0.05)  # it did normalise
    environments.save(str(tmp_path / "statistics.pkl"))
    loaded = VecNormalize.load(str(tmp_path / "statistics.pkl"), _environments())
    assert isinstance(loaded, SymmetricVecNormalize)
    assert np.array_equal(loaded.obs_rms.mean, environments.obs_rms.mean)  # type: ignore[union-attr]
    _agent(loaded).learn(64)
    other = SymmetricVecNormalize(_environments(), SWAPPED, training=False)
    sync_envs_normalization(environments, other)
    assert np.array_equal(other.obs_rms.var, environments.obs_rms.var)


def test_plain_statistics_and_those_of_another_symmetry_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SymmetricVecNormalize\(env, symmetry\)"):
        _agent(VecNormalize(_environments()))
    other = MDPSymmetry(
        "nothing", trivial_representation(SWAPPED.group, (5,)), trivial_representation(SWAPPED.group, (3,))
    )
    with pytest.raises(ValueError, match="running statistics follow the visited states"):
        _agent(SymmetricVecNormalize(_environments(), other))
    with pytest.raises(ValueError, match=r"acts on observations \[5\]"):
        SymmetricVecNormalize(make_vec_env("Pendulum-v1", 1), SWAPPED)


def test_rewards_alone_leave_observations_as_they_are() -> None:
    environments = SymmetricVecNormalize(_environments(), SWAPPED, norm_obs=False)
    assert np.array_equal(environments.normalize_obs(np.ones((2, 5))), np.ones((2, 5)))
    _agent(environments).learn(64)


def test_frames_stacked_on_top_are_looked_at_one_by_one() -> None:
    stacked = stack_frames(SWAPPED, 2)
    own = {"symmetry": stacked, "method": "equitune", "net_arch": [8]}
    environments = VecFrameStack(SymmetricVecNormalize(_environments(), SWAPPED), 2)
    PPO(EquivariantActorCriticPolicy, environments, n_steps=32, batch_size=32, device="cpu", policy_kwargs=own).learn(
        64
    )
    other = MDPSymmetry("nothing", trivial_representation(SWAPPED.group, (5,)), SWAPPED.action)
    wrong = VecFrameStack(SymmetricVecNormalize(_environments(), other), 2)
    with pytest.raises(ValueError, match="running statistics follow the visited states"):
        PPO(EquivariantActorCriticPolicy, wrong, n_steps=32, device="cpu", policy_kwargs=own)
