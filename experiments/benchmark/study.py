"""A learning study: agents x seeds, each run evaluated exactly as it learns, resumable run by run."""

from __future__ import annotations

import importlib.util
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import yaml
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents import METHODS, EquivariantDQNPolicy, SymmetryReplayBuffer
from equirl.experiments.checks import check_counts, check_names, check_shares, check_text
from equirl.experiments.exact_evaluation import GridWorldStates
from equirl.experiments.hyperparameters import settings_for
from equirl.experiments.outputs import check_output_folder, write_tables
from equirl.experiments.runs import Rows, run_file, run_missing
from equirl.names import unknown_name_message
from equirl.symmetry import registered_symmetries

__all__ = ["COLUMNS", "AgentSpec", "StudyConfig", "parse_agent", "run_study"]

COLUMNS = ("agent", "seed", "timesteps", "success_rate", "train_seconds")

_ENVIRONMENT = "equirl/GridWorld-v0"
_DQN_SETTINGS = ("batch_size", "gradient_steps", "train_freq", "learning_rate")


@dataclass(frozen=True)
class StudyConfig:
    """Settings of the study; every one is recorded beside the results."""

    agents: tuple[str, ...] = (
        "plain",
        "grid-d4/augmentation",
        "grid-c4/equitune",
        "grid-c4/lambda_equitune",
        "grid-c4/equizero",
        "grid-c4/canonical",
        "grid-d4/equitune",
        "grid-d4/lambda_equitune",
        "grid-d4/equizero",
        "grid-d4/canonical",
    )
    """"plain" (SB3), "sbx" (SBX's plain DQN, where it is installed), SYMMETRY/METHOD or SYMMETRY/augmentation; each
    with settings as +key=value, the method's own or DQN's batch_size, gradient_steps, train_freq, learning_rate."""
    n_seeds: int = 5
    """Seeds 0 .. n_seeds - 1 for each agent."""
    size: int = 7
    """Rows and columns of the grid; starts and goals are uniform."""
    total_timesteps: int = 60_000
    """Environment steps after which a run ends in any case."""
    eval_freq: int = 500
    """Environment steps between two evaluations over all states."""
    threshold: float = 0.975
    """Success rate that counts as learned."""
    stop_after: int = 3
    """A run ends after so many evaluations in a row at the threshold or above; its last value is carried on."""
    n_jobs: int = 2
    """Runs at a time, one torch thread each."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://...) or a Ray cluster (ray://...) that does the runs instead."""
    out: Path = Path("logs/benchmark/rl")
    """Folder of the results."""
    report_only: bool = False
    """Only write the table and the plot again, from the CSV."""

    def __post_init__(self) -> None:
        check_names("agent", self.agents)
        check_counts(self, "n_seeds", "total_timesteps", "eval_freq", "stop_after", "n_jobs")
        check_counts(self, "size", least=2)
        check_shares(self, "threshold")
        if self.eval_freq > self.total_timesteps:
            raise ValueError(
                f"eval_freq must not be above total_timesteps, or nothing is evaluated; got {self.eval_freq} and "
                f"{self.total_timesteps}"
            )


@dataclass(frozen=True)
class AgentSpec:
    """What one agent of the study is: ``method`` is ``"plain"``, ``"sbx"``, ``"augmentation"`` or a method's name."""

    name: str
    symmetry: str | None
    method: str
    method_kwargs: dict[str, Any]
    dqn_kwargs: dict[str, Any]


def parse_agent(name: str) -> AgentSpec:
    """Return the agent that ``"plain"``, ``"sbx"`` or ``"SYMMETRY/METHOD"`` names, each perhaps with ``+key=value``.

    Raises:
        ValueError: Not of that form, an unknown symmetry or method, or SBX is not installed.
    """
    check_text("an agent", name)
    base, *pairs = name.split("+")
    symmetry, slash, method = base.partition("/")
    without_symmetry = base in ("plain", "sbx")
    if not (slash or without_symmetry) or any("=" not in pair for pair in pairs):
        raise ValueError(f"agent {name!r} is not of the form plain, sbx or SYMMETRY/METHOD, perhaps with +key=value")
    if base == "sbx" and importlib.util.find_spec("sbx") is None:
        raise ValueError("the agent 'sbx' needs SBX: pip install 'equirl[bench]'")
    settings = {key: _setting(name, value) for key, value in (pair.split("=", 1) for pair in pairs)}
    if len(settings) < len(pairs):
        raise ValueError(f"agent {name!r} gives a setting twice; give each once")
    dqn_kwargs = {key: _number(key, settings.pop(key)) for key in _DQN_SETTINGS if key in settings}
    if without_symmetry:
        if settings:
            raise ValueError(unknown_name_message(f"setting of {base!r}:", next(iter(settings)), _DQN_SETTINGS))
        return AgentSpec(name, None, base, {}, dqn_kwargs)
    if symmetry not in registered_symmetries():
        raise ValueError(unknown_name_message("symmetry", symmetry, registered_symmetries()))
    if method not in (*METHODS, "augmentation"):
        raise ValueError(unknown_name_message("method", method, [*METHODS, "augmentation"]))
    if method == "augmentation" and settings:
        raise ValueError(unknown_name_message("setting of augmentation:", next(iter(settings)), _DQN_SETTINGS))
    return AgentSpec(name, symmetry, method, settings, dqn_kwargs)


def _setting(agent: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ValueError(f"agent {agent!r}: the setting {value!r} is no value of YAML ({error})") from error


def _number(setting: str, value: Any) -> int | float:
    kind = "number" if setting == "learning_rate" else "whole number"
    try:
        number = float(value)  # YAML takes 1e-3 for a word
    except (TypeError, ValueError):
        number = -1.0
    if not 0 < number < math.inf or (kind == "whole number" and number != int(number)):
        raise ValueError(f"{setting} must be a positive {kind}, not {value!r}")
    return int(number) if kind == "whole number" else number


def run_study(config: StudyConfig) -> None:
    """Run what is not done yet and write ``study.csv`` and ``record.json`` into ``config.out``.

    Each finished run is a CSV under ``runs/``; a study that was stopped goes on with the runs that are missing.

    Raises:
        ValueError: An agent's name is not understood, or its settings are none for this environment.
    """
    check_output_folder(config.out)
    specs = [parse_agent(name) for name in config.agents]
    for spec in specs:
        _check_agent(config, spec)
    jobs = [(config, spec, seed) for seed in range(config.n_seeds) for spec in specs]
    run_missing(jobs, _run, _file_of, COLUMNS, config.n_jobs, config.cluster)
    in_order = [(config, spec, seed) for spec in specs for seed in range(config.n_seeds)]
    write_tables(config.out, {"study.csv": (COLUMNS, [_file_of(job) for job in in_order])}, config)


def _check_agent(config: StudyConfig, spec: AgentSpec) -> None:
    """Make an agent once, so that a mistake in its settings is met before the hours and not after them."""
    try:
        _make_agent(config, spec, 0)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"agent {spec.name!r} cannot be made: {error}") from error


_Job = tuple[StudyConfig, AgentSpec, int]


def _file_of(job: _Job) -> Path:
    config, spec, seed = job
    decisive = (config.size, config.total_timesteps, config.eval_freq, config.threshold, config.stop_after)
    settings = settings_for("dqn", _ENVIRONMENT, config.total_timesteps)
    return run_file(config.out, f"{spec.name}-seed{seed}", [decisive, settings])


def _run(job: _Job) -> Rows:
    config, spec, seed = job
    torch.set_num_threads(1)
    model = _make_agent(config, spec, seed)
    callback = _ExactEvaluation(config, spec, seed)
    model.learn(config.total_timesteps, callback=callback)
    last = callback.rows[-1]
    print(f"{spec.name} seed {seed}: success {last[3]} after {last[2]} steps, {last[4]} s", flush=True)
    return callback.rows


def _make_agent(config: StudyConfig, spec: AgentSpec, seed: int) -> Any:
    settings = settings_for("dqn", _ENVIRONMENT, config.total_timesteps)
    del settings["n_envs"]
    settings |= spec.dqn_kwargs
    environment = gym.make(_ENVIRONMENT, size=config.size)
    if spec.method == "sbx":
        # One thread for XLA too; it is read when JAX starts.
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        import sbx

        return sbx.DQN("MlpPolicy", environment, seed=seed, **settings)
    if spec.method == "augmentation":
        settings |= {"replay_buffer_class": SymmetryReplayBuffer, "replay_buffer_kwargs": {"symmetry": spec.symmetry}}
    elif spec.method != "plain":
        settings["policy_kwargs"] |= {
            "symmetry": spec.symmetry,
            "method": spec.method,
            "method_kwargs": spec.method_kwargs,
        }
    policy = EquivariantDQNPolicy if spec.method in METHODS else "MlpPolicy"
    return DQN(policy, environment, seed=seed, device="cpu", **settings)


class _ExactEvaluation(BaseCallback):
    """Evaluates over all states every ``eval_freq`` steps, off the clock, and ends the run once it has learned."""

    def __init__(self, config: StudyConfig, spec: AgentSpec, seed: int) -> None:
        super().__init__()
        self._config = config
        self._states = GridWorldStates(config.size)
        self._name = (spec.name, seed)
        self._in_a_row = 0
        self._paused = 0.0
        self._started = time.perf_counter()
        self.rows: list[tuple[Any, ...]] = []

    def _on_training_start(self) -> None:
        self._started = time.perf_counter()

    def _on_step(self) -> bool:
        if self.num_timesteps % self._config.eval_freq:
            return True
        pause = time.perf_counter()
        rate = self._states.success_rate(self.model)
        seconds = round(pause - self._started - self._paused, 2)
        self.rows.append((*self._name, self.num_timesteps, round(rate, 4), seconds))
        self._in_a_row = self._in_a_row + 1 if rate >= self._config.threshold else 0
        self._paused += time.perf_counter() - pause
        return self._in_a_row < self._config.stop_after
