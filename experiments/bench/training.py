"""Training of Stable-Baselines3 agents: environment steps and gradient steps, and the vectorised GridWorld."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from equirl.agents import EquivariantDQNPolicy, GridCNN, SymmetryReplayBuffer, make_vectorized_env
from equirl.experiments.bench.timing import Measurement, Settings, compare

__all__ = ["ENVIRONMENT_STEP", "GRADIENT_STEP", "TRAINING_STEP", "measure_environments", "measure_training"]

TRAINING_STEP = "DQN environment step"
GRADIENT_STEP = "DQN gradient step"
ENVIRONMENT_STEP = "GridWorld step of all environments"

_STEPS = 50
_ID = "equirl/GridWorld-v0"


def measure_training(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per environment step and per gradient step of DQN on the 7x7 GridWorld, equal hyperparameters."""
    for kind in ("mlp", "cnn"):
        batch = 64 if kind == "mlp" else 128
        for group in ("c4", "d4"):
            if settings.quick and (kind, group) == ("cnn", "d4"):
                continue
            agents = _agents(settings, kind, batch, f"grid-{group}")
            for what, time, n in (
                (GRADIENT_STEP, _gradient_steps, 20 if kind == "mlp" else 2),
                (TRAINING_STEP, _training_steps, 50 if kind == "mlp" else 4),
            ):
                if settings.quick and kind == "cnn" and what == TRAINING_STEP:
                    continue
                # SBX draws batches for its gradient steps where it learns; there is no call for one alone.
                chosen = {name: agent for name, agent in agents.items() if what == TRAINING_STEP or name != "sbx"}
                cases = {name: time(agent, n) for name, agent in chosen.items()}
                rows = compare(cases, replace(settings, min_seconds=0), what, group.upper(), kind, 7, batch)
                yield from (_per_step(row, n) for row in rows)


def measure_environments(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per step of 64 GridWorlds: SB3's loop over single ones, and the batch."""
    for n in (64,) if settings.quick else (1, 8, 64, 512):
        singles = DummyVecEnv([lambda: gym.make(_ID) for _ in range(n)])
        singles.reset()
        batch = make_vectorized_env(_ID, n, seed=0, monitor=False)
        batch.reset()
        vector = gym.make_vec(_ID, num_envs=n, vectorization_mode="vector_entry_point")
        vector.reset(seed=0)
        actions = np.random.default_rng(0).integers(4, size=(_STEPS, n))
        cases = {
            "SB3 DummyVecEnv": _stepping(singles, actions),
            "vectorised, SB3": _stepping(batch, actions),
            "vectorised, Gymnasium": _stepping(vector, actions),
        }
        rows = compare(cases, settings, ENVIRONMENT_STEP, "-", "-", 7, n)
        yield from (_per_step(row, _STEPS) for row in rows)


def _agents(settings: Settings, kind: str, batch: int, symmetry: str) -> dict[str, Any]:
    torch.set_num_threads(settings.threads)
    common: dict[str, Any] = {
        "learning_rate": 5e-4,
        "batch_size": batch,
        "buffer_size": 10_000,
        "learning_starts": 100,
        "gamma": 0.95,
        "train_freq": 1,
        "target_update_interval": 250,
        "seed": 0,
    }
    network: dict[str, Any] = {"net_arch": [128, 128]}
    if kind == "cnn":
        network = {"net_arch": [128], "features_extractor_class": GridCNN}
    agents: dict[str, Any] = {
        "plain": DQN("MlpPolicy", gym.make(_ID), policy_kwargs=network, device=settings.device, **common)
    }
    agents["plain, fused Adam"] = DQN(
        "MlpPolicy",
        gym.make(_ID),
        policy_kwargs={**network, "optimizer_kwargs": {"fused": True}},
        device=settings.device,
        **common,
    )
    agents["augmentation"] = DQN(
        "MlpPolicy",
        gym.make(_ID),
        policy_kwargs=network,
        device=settings.device,
        replay_buffer_class=SymmetryReplayBuffer,
        replay_buffer_kwargs={"symmetry": symmetry},
        **common,
    )
    methods = ("equitune", "lambda_equitune", "equizero", "canonical")
    for method in (methods[0], methods[3]) if settings.quick and kind == "cnn" else methods:
        policy_kwargs = {**network, "symmetry": symmetry, "method": method}
        agents[method] = DQN(
            EquivariantDQNPolicy, gym.make(_ID), policy_kwargs=policy_kwargs, device=settings.device, **common
        )
    if kind == "mlp" and importlib.util.find_spec("sbx") is not None:
        import sbx

        agents["sbx"] = sbx.DQN("MlpPolicy", gym.make(_ID), policy_kwargs={"net_arch": [128, 128]}, **common)
    for agent in agents.values():
        agent.learn(120)
    return agents


def _gradient_steps(agent: Any, n: int) -> Callable[[], object]:
    return lambda: agent.train(n, agent.batch_size)


def _training_steps(agent: Any, n: int) -> Callable[[], object]:
    return lambda: agent.learn(n, reset_num_timesteps=False)


def _stepping(environments: VecEnv | gym.vector.VectorEnv[Any, Any, Any], actions: Any) -> Callable[[], object]:
    def run() -> None:
        for action in actions:
            environments.step(action)

    return run


def _per_step(row: Measurement, steps: int) -> Measurement:
    return replace(
        row,
        seconds=row.seconds / steps,
        seconds_low=row.seconds_low / steps,
        seconds_high=row.seconds_high / steps,
    )
