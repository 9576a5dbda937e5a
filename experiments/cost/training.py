"""Training: steps of SB3 agents, of the vectorised GridWorld and of sequence models, and whole runs until learned."""

from __future__ import annotations

import copy
import importlib.util
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from torch import Tensor

from equirl.agents import METHODS, GridCNN, make_vectorized_env
from equirl.agents.comparison import make_agent
from equirl.experiments.cost.measurement import Measurement, compare, per_item
from equirl.experiments.rl.report import read_learning_study, steps_to_threshold
from equirl.experiments.scan.batches import COMMAND_VOCABULARY, Batch, Examples
from equirl.experiments.scan.models import make_model, make_symmetry
from equirl.experiments.scan.splits import make_split
from equirl.experiments.scan.training import loss_of
from equirl.experiments.timing import Settings
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SymmetrizedSequenceModel

__all__ = [
    *("ENVIRONMENT_STEP", "GRADIENT_STEP", "LEARNING", "SEQUENCES", "TRAINING_STEP", "measure_environments"),
    *("measure_sequences", "measure_training", "read_learning", "stepping"),
]

TRAINING_STEP = "DQN environment step"
GRADIENT_STEP = "DQN gradient step"
ENVIRONMENT_STEP = "GridWorld step of all environments"
SEQUENCES = "SCAN gradient step, per sequence"
LEARNING = "learning the 7x7 GridWorld (97.5 % of all states)"

_STEPS = 50
_SEQUENCES_TOGETHER = 64
_ALONE = "plain, one at a time"
_ID = "equirl/GridWorld-v0"


def measure_training(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per environment step and per gradient step of DQN on the 7x7 GridWorld, equal hyperparameters."""
    once = replace(settings, min_seconds=0)
    for kind, group in (("mlp", "C4"), ("mlp", "D4"), ("cnn", "C4"), ("cnn", "D4")):
        small, fewer = kind == "mlp", settings.quick and kind == "cnn"
        if fewer and group == "D4":
            continue
        batch = 64 if small else 128
        agents = _agents(settings, kind, batch, f"grid-{group.lower()}")
        n = 20 if small else 2
        # SBX draws batches for its gradient steps where it learns; there is no call for one alone.
        cases = {name: partial(agent.train, n, batch) for name, agent in agents.items() if name != "sbx"}
        yield from (per_item(row, n) for row in compare(cases, once, GRADIENT_STEP, group, kind, 7, batch))
        if not fewer:
            n = 50 if small else 4
            cases = {name: partial(agent.learn, n, reset_num_timesteps=False) for name, agent in agents.items()}
            yield from (per_item(row, n) for row in compare(cases, once, TRAINING_STEP, group, kind, 7, batch))


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
        environments: dict[str, Any] = {
            "SB3 DummyVecEnv": singles,
            "vectorised, SB3": batch,
            "vectorised, Gymnasium": vector,
        }
        cases = {name: stepping(each, actions) for name, each in environments.items()}
        rows = compare(cases, settings, ENVIRONMENT_STEP, "-", "-", 7, n)
        yield from (per_item(row, _STEPS) for row in rows)


def stepping(environments: VecEnv | gym.vector.VectorEnv[Any, Any, Any], actions: Any) -> Callable[[], object]:
    """Return a call that takes all steps of ``actions``, ``[steps, environments]``."""

    def run() -> None:
        for action in actions:
            environments.step(action)

    return run


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

    def make(method: str, **more: Any) -> Any:
        arguments = {**common, "policy_kwargs": network | more}
        return make_agent("dqn", gym.make(_ID), arguments, method=method, symmetry=symmetry, device=settings.device)

    methods = ("equitune", "canonical") if settings.quick and kind == "cnn" else tuple(METHODS)
    agents = {"plain": make("plain"), "plain, fused Adam": make("plain", optimizer_kwargs={"fused": True})}
    agents |= {method: make(method) for method in ("augmentation", *methods)}
    if kind == "mlp" and importlib.util.find_spec("sbx") is not None:
        import sbx

        agents["sbx"] = sbx.DQN("MlpPolicy", gym.make(_ID), policy_kwargs=network, **common)
    for agent in agents.values():
        agent.learn(120)
    return agents


def measure_sequences(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per command of a gradient step: one command at a time, and 64 of like length together."""
    examples = Examples(make_split("addprim_jump").train[: 20 * _SEQUENCES_TOGETHER], settings.device)
    order = examples.shuffled(_SEQUENCES_TOGETHER, torch.Generator().manual_seed(0))
    batches = list(map(examples.batch, order))
    together = [batches[0]] if settings.quick else batches[:: len(batches) // 4]
    alone = [examples.batch(row[None]) for row in torch.arange(4 if settings.quick else 40)]
    torch.manual_seed(0)
    plain = make_model("lstm").to(settings.device)
    aggregator = make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
    equitune = SymmetrizedSequenceModel(make_model("lstm"), make_symmetry("jump-run"), aggregator).to(settings.device)
    learned = {"plain": together, "equitune": together, _ALONE: alone}
    models = {"plain": plain, "equitune": equitune, _ALONE: copy.deepcopy(plain)}
    cases = {name: _learning_steps(model, learned[name]) for name, model in models.items()}
    numbers = {name: sum(len(batch.command) for batch in part) for name, part in learned.items()}
    once = replace(settings, min_seconds=0)
    for row in compare(cases, once, SEQUENCES, "C2", "lstm", 64, _SEQUENCES_TOGETHER):
        yield replace(
            per_item(row, numbers[row.method]),
            group="C2" if row.method == "equitune" else "-",
            batch=1 if row.method == _ALONE else _SEQUENCES_TOGETHER,
            ratio_to_plain=row.ratio_to_plain * numbers["plain"] / numbers[row.method],
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


def read_learning(study: Path, settings: Settings) -> Iterator[Measurement]:
    """Yield training seconds to the threshold, median over the seeds, of each agent of a study.

    Evaluations are not counted. Agents that did not learn with most of their seeds have infinite seconds.

    Args:
        study: Folder with the ``study.csv`` of ``equirl study rl``.
        settings: For the columns on device and threads.

    Raises:
        ValueError: The file is damaged, or another study's.
    """
    reached = steps_to_threshold(read_learning_study(study), 0.975)
    plain = reached.train_seconds[reached.agent == "plain"].median()  # NaN where there is none
    for agent, rows in reached.groupby("agent", sort=False):
        low, middle, high = np.percentile(rows.train_seconds, [25, 50, 75], method="nearest").tolist()
        symmetry, _, method = str(agent).rpartition("/")
        group = symmetry.removeprefix("grid-").upper() or "-"
        yield Measurement(
            *(LEARNING, method, group, "mlp", 7, 64, middle, low, high),
            ratio_to_plain=float(middle / plain) if math.isfinite(plain) else math.nan,
            rounds=len(rows),
            steps=float(rows.timesteps.median()),
            device=settings.device_name,
            threads=settings.threads,
        )
