"""Steps of training: environment and gradient steps of SB3 agents, the vectorised GridWorld, models of sequences."""

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
from torch import Tensor

from equirl.agents import EquivariantDQNPolicy, GridCNN, SymmetryReplayBuffer, make_vectorized_env
from equirl.experiments.cost.measurement import Measurement, compare, per_item
from equirl.experiments.scan.batches import COMMAND_VOCABULARY, Batch, Examples
from equirl.experiments.scan.models import make_model, make_symmetry
from equirl.experiments.scan.splits import make_split
from equirl.experiments.scan.training import loss_of
from equirl.experiments.timing import Settings
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SymmetrizedSequenceModel

__all__ = [
    *("ENVIRONMENT_STEP", "GRADIENT_STEP", "SEQUENCES", "TRAINING_STEP"),
    *("measure_environments", "measure_sequences", "measure_training"),
]

TRAINING_STEP = "DQN environment step"
GRADIENT_STEP = "DQN gradient step"
ENVIRONMENT_STEP = "GridWorld step of all environments"
SEQUENCES = "SCAN gradient step, per sequence"

_STEPS = 50
_SEQUENCES_TOGETHER = 64
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
                yield from (per_item(row, n) for row in rows)


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
        yield from (per_item(row, _STEPS) for row in rows)


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

    def make(policy: Any = "MlpPolicy", policy_kwargs: dict[str, Any] | None = None, **more: Any) -> DQN:
        policy_kwargs = {**network, **(policy_kwargs or {})}
        return DQN(policy, gym.make(_ID), policy_kwargs=policy_kwargs, device=settings.device, **common, **more)

    replay: dict[str, Any] = {
        "replay_buffer_class": SymmetryReplayBuffer,
        "replay_buffer_kwargs": {"symmetry": symmetry},
    }
    agents: dict[str, Any] = {
        "plain": make(),
        "plain, fused Adam": make(policy_kwargs={"optimizer_kwargs": {"fused": True}}),
        "augmentation": make(**replay),
    }
    methods = ("equitune", "lambda_equitune", "equizero", "canonical")
    for method in (methods[0], methods[3]) if settings.quick and kind == "cnn" else methods:
        agents[method] = make(EquivariantDQNPolicy, {"symmetry": symmetry, "method": method})
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


def measure_sequences(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per command of a gradient step: one command at a time, and 64 of like length together."""
    examples = Examples(make_split("addprim_jump").train[: 20 * _SEQUENCES_TOGETHER], settings.device)
    order = examples.shuffled(_SEQUENCES_TOGETHER, torch.Generator().manual_seed(0))
    batches = list(map(examples.batch, order))
    rows = torch.arange(4 if settings.quick else 40)
    symmetry = make_symmetry("jump-run")

    def plain() -> SequenceModel:
        torch.manual_seed(0)
        return make_model("lstm").to(settings.device)

    def equitune() -> SequenceModel:
        aggregator = make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
        return SymmetrizedSequenceModel(make_model("lstm"), symmetry, aggregator).to(settings.device)

    together = [batches[0]] if settings.quick else batches[:: len(batches) // 4]
    alone = [examples.batch(row[None]) for row in rows]
    cases = {
        "plain": (_learning_steps(plain(), together), sum(len(batch.command) for batch in together)),
        "equitune": (_learning_steps(equitune(), together), sum(len(batch.command) for batch in together)),
        "plain, one at a time": (_learning_steps(plain(), alone), len(alone)),
    }
    timed = {name: case for name, (case, _) in cases.items()}
    measured = compare(timed, replace(settings, min_seconds=0), SEQUENCES, "C2", "lstm", 64, _SEQUENCES_TOGETHER)
    numbers = {name: n for name, (_, n) in cases.items()}
    for row in measured:
        per_one = numbers[row.method]
        yield replace(
            per_item(row, per_one),
            group="C2" if row.method == "equitune" else "-",
            batch=1 if row.method == "plain, one at a time" else _SEQUENCES_TOGETHER,
            ratio_to_plain=row.ratio_to_plain * numbers["plain"] / per_one,
        )


def _learning_steps(model: SequenceModel, batches: list[Batch]) -> Callable[[], Tensor]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def run() -> Tensor:
        loss = torch.zeros(())
        for batch in batches:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss

    return run
