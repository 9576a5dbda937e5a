"""``equirl study rl``: plain and symmetrized DQN on the GridWorld, each run evaluated over all states as it learns."""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from equirl.agents import METHODS
from equirl.agents.comparison import make_agent
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.our_hyperparameters import settings_for
from equirl.arguments import check_text
from equirl.envs.gridworld_states import GridWorldStates
from equirl.experiments.checks import check_counts, check_shares
from equirl.experiments.rl.report import learning_rows, report_learning
from equirl.experiments.study import Stage, Study, StudyOptions
from equirl.experiments.tables import Rows
from equirl.names import check_names, unknown_name_message
from equirl.symmetry import registered_symmetries

__all__ = ["COLUMNS", "GRIDWORLD", "AgentSpec", "GridWorldOptions", "parse_agent"]

COLUMNS = ("agent", "seed", "timesteps", "success_rate", "train_seconds")

_ENVIRONMENT = "equirl/GridWorld-v0"
_DQN_SETTINGS = ("batch_size", "gradient_steps", "train_freq", "learning_rate")
_MOST_DRAWN = 5


@dataclass(frozen=True)
class GridWorldOptions(StudyOptions):
    """Plain and symmetrized DQN on the 7x7 GridWorld, with equal hyperparameters."""

    out: Path = Path("logs/study/rl")
    """Folder of the results."""
    agents: tuple[str, ...] = (
        *("plain", "grid-d4/augmentation"),
        *(f"{symmetry}/{method}" for symmetry in ("grid-c4", "grid-d4") for method in METHODS),
    )
    """"plain" (SB3), "sbx" (SBX's plain DQN, where it is installed), SYMMETRY/METHOD or SYMMETRY/augmentation; each
    with settings as +key=value, the method's own or DQN's batch_size, gradient_steps, train_freq, learning_rate."""
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
    plot: tuple[str, ...] = ()
    """Agents in the figures, at most five; by default plain, augmentation and the fastest agent of each of three
    methods."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("agent", self.agents)
        if self.plot:
            check_names("agent to plot", self.plot, plural="agents to plot")
        if len(self.plot) > _MOST_DRAWN:
            raise ValueError(f"plot names {len(self.plot)} agents; name at most {_MOST_DRAWN}")
        check_counts(self, "total_timesteps", "eval_freq", "stop_after")
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
    if settings and without_symmetry:
        raise ValueError(unknown_name_message(f"setting of {base!r}:", next(iter(settings)), _DQN_SETTINGS))
    if without_symmetry:
        return AgentSpec(name, None, base, {}, dqn_kwargs)
    check_names("symmetry", (symmetry,), registered_symmetries())
    check_names("method", (method,), (*METHODS, "augmentation"))
    if settings and method == "augmentation":
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


_Job = tuple[GridWorldOptions, AgentSpec, int]


def _check(options: GridWorldOptions) -> None:
    """Make each agent once, so that a mistake in its settings is met before hours of work."""
    for spec in map(parse_agent, options.agents):
        try:
            _make_agent(options, spec, 0)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"agent {spec.name!r} cannot be made: {error}") from error


def _stages(options: GridWorldOptions) -> list[Stage[_Job]]:
    specs = [parse_agent(name) for name in options.agents]
    jobs = [(options, spec, seed) for seed in range(options.seeds) for spec in specs]
    return [Stage(jobs, _run, _file_of, COLUMNS, order=lambda job: options.agents.index(job[1].name))]


def _file_of(job: _Job) -> Path:
    options, spec, seed = job
    decisive = (options.size, options.total_timesteps, options.eval_freq, options.threshold, options.stop_after)
    settings = settings_for("dqn", _ENVIRONMENT, options.total_timesteps)
    return options.run_file(f"{spec.name}-seed{seed}", decisive, settings)


def _run(job: _Job) -> Rows:
    options, spec, seed = job
    states = GridWorldStates(options.size)
    callback = EvaluateAndStop(
        lambda agent: (states.success_rate(agent),), options.eval_freq, options.threshold, options.stop_after
    )
    agent = _make_agent(options, spec, seed)
    return learning_rows(f"{spec.name} seed {seed}", (spec.name, seed), agent, options.total_timesteps, callback)


def _make_agent(options: GridWorldOptions, spec: AgentSpec, seed: int) -> Any:
    settings = settings_for("dqn", _ENVIRONMENT, options.total_timesteps) | spec.dqn_kwargs
    environment = gym.make(_ENVIRONMENT, size=options.size)
    if spec.method == "sbx":
        # One thread for XLA too; it is read when JAX starts.
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        import sbx

        del settings["n_envs"]
        return sbx.DQN("MlpPolicy", environment, seed=seed, **settings)
    how: dict[str, Any] = {"method": spec.method, "symmetry": spec.symmetry, "method_kwargs": spec.method_kwargs}
    return make_agent("dqn", environment, settings, seed=seed, device=options.device, **how)


GRIDWORLD = Study(
    _stages, lambda options: report_learning(options.out, options.threshold, options.plot, _MOST_DRAWN), _check
)
"""``equirl study rl``."""
