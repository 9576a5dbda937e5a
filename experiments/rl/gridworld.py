"""``equirl study rl``: plain and symmetrized DQN on the GridWorld, each run evaluated over all states as it learns."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from equirl.agents import METHODS
from equirl.agents.cli.option_checks import check_counts, check_evaluations, check_shares
from equirl.agents.comparison import make_agent
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.evaluation import evaluate_episodes
from equirl.agents.features_extractors import GridCNN
from equirl.agents.gate_measures import gate_logits, gate_openings, roc_area
from equirl.agents.named_agents import AgentSpec, parse_agent
from equirl.agents.our_hyperparameters import settings_for, with_exploration
from equirl.agents.vector_env import make_vectorized_env
from equirl.envs.broken_grid import Breaks, broken_moves
from equirl.envs.gridworld_states import GridWorldStates
from equirl.experiments.rl.report import COLUMNS, learning_rows, report_learning
from equirl.experiments.study import Stage, Study, StudyOptions
from equirl.experiments.tables import Rows
from equirl.names import check_names
from equirl.symmetry import build_symmetry

__all__ = ["AGENTS", "GRIDWORLD", "GridWorldOptions", "grid_agent", "grid_curve"]

AGENTS = (
    *("plain", "grid-d4/augmentation"),
    *(f"{symmetry}/{method}" for symmetry in ("grid-c4", "grid-d4") for method in METHODS),
)

_ENVIRONMENT = "equirl/GridWorld-v0"
_EPISODES = 500
"""Episodes of an evaluation where chance plays a part, the same in each."""
_MOST_DRAWN = 5
_GATES = ("gate_mean", "gate_auc")
_CONVOLUTIONS = {"policy_kwargs": {"features_extractor_class": GridCNN, "net_arch": [128]}}


@dataclass(frozen=True)
class GridWorldOptions(StudyOptions):
    """Plain and symmetrized DQN on the GridWorld, each with the hyperparameters that suit it (`equirl study tune`)."""

    out: Path = Path("logs/study/rl")
    """Folder of the results."""
    agents: tuple[str, ...] = AGENTS
    """"plain" (SB3), "sbx" (SBX's plain DQN, where it is installed), SYMMETRY/METHOD or SYMMETRY/augmentation; each
    with its own hyperparameters of `equirl train`, and others as +key=value, the method's or DQN's n_envs, batch_size,
    gradient_steps, train_freq, target_update_interval, exploration_steps, learning_rate."""
    size: int = 7
    """Rows and columns of the grid; starts and goals are uniform."""
    wall_density: float = 0.0
    """Share of the cells that are walls, drawn anew in each episode."""
    network: Literal["mlp", "cnn"] = "mlp"
    """Network of all agents: two hidden layers, or two convolutions and one hidden layer, which walls need."""
    slip: float = 0.0
    """Probability that a move goes to one side instead."""
    broken_cells: float = 0.0
    """Share of the cells in which one move is turned, so that the symmetry fails there; other cells for each seed."""
    gates: bool = False
    """Whether to measure the gates of partial agents against the cells that are broken; no run ends early then."""
    total_timesteps: int = 60_000
    """Environment steps after which a run ends in any case."""
    eval_freq: int = 500
    """Environment steps between two evaluations: over all states, or over 500 episodes if there are walls or slips."""
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
        check_counts(self, "total_timesteps", "eval_freq", "stop_after")
        check_counts(self, "size", least=2)
        check_shares(self, "threshold")
        check_shares(self, "wall_density", "slip", "broken_cells", zero=True)
        check_evaluations(self.eval_freq, self.total_timesteps)
        if self.network == "cnn" and any(agent.partition("+")[0] == "sbx" for agent in self.agents):
            raise ValueError("network cnn is one of torch, and the agent sbx has JAX's: leave one of them out")
        if self.plot:
            check_names("agent to plot", self.plot, plural="agents to plot")
        if len(self.plot) > _MOST_DRAWN:
            raise ValueError(f"plot names {len(self.plot)} agents; name at most {_MOST_DRAWN}")

    def world(self, seed: int) -> dict[str, Any]:
        """Settings of the environment of one run."""
        world = {"size": self.size, "wall_density": self.wall_density, "slip": self.slip}
        return world | ({"broken_cells": self.broken_cells, "broken_seed": seed} if self.broken_cells else {})


_Job = tuple[GridWorldOptions, AgentSpec, int]


def _check(options: GridWorldOptions) -> None:
    """Make each agent once, so that a mistake in its settings is met before hours of work."""
    for spec in map(parse_agent, options.agents):
        try:
            grid_agent(options, spec, 0).get_env().close()
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"agent {spec.name!r} cannot be made: {error}") from error


def _stages(options: GridWorldOptions) -> list[Stage[_Job]]:
    specs = [parse_agent(name) for name in options.agents]
    jobs = [(options, spec, seed) for seed in range(options.seeds) for spec in specs]
    return [
        Stage(
            jobs,
            _run,
            _file_of,
            (*COLUMNS, *(_GATES if options.gates else ())),
            order=lambda job: options.agents.index(job[1].name),
        )
    ]


def _file_of(job: _Job) -> Path:
    options, spec, seed = job
    decisive = (options.world(seed), options.total_timesteps, options.eval_freq, options.threshold, options.stop_after)
    more = (_GATES,) if options.gates else ()
    return options.run_file(f"{spec.name}-seed{seed}", decisive, _settings(options, spec), *more)


def _run(job: _Job) -> Rows:
    options, spec, seed = job
    callback = grid_curve(options, options.stop_after, seed=seed)
    agent = grid_agent(options, spec, seed)
    return learning_rows(f"{spec.name} seed {seed}", (spec.name, seed), agent, options.total_timesteps, callback)


def _settings(options: GridWorldOptions, spec: AgentSpec) -> dict[str, Any]:
    """Return the hyperparameters of an agent: those of its method, and over them those of its name."""
    own = settings_for("dqn", _ENVIRONMENT, options.total_timesteps, spec.method, spec.symmetry)
    network = _CONVOLUTIONS if options.network == "cnn" else {}
    return with_exploration(own | network | spec.dqn_kwargs, options.total_timesteps)


def grid_curve(
    options: GridWorldOptions, stop_after: int, most_cpu_seconds: float = float("inf"), seed: int = 0
) -> EvaluateAndStop:
    """Return the callback that evaluates an agent on the grid, and ends its training once it has learned.

    Args:
        options: The grid.
        stop_after: Evaluations in a row at the threshold after which training ends.
        most_cpu_seconds: Training also ends after so many seconds of CPU time.
        seed: Seed of the run, by which cells are broken.
    """
    chance = options.wall_density or options.slip
    environments = make_vectorized_env(_ENVIRONMENT, _EPISODES if chance else 1, env_kwargs=options.world(seed))
    breaks = Breaks(options.broken_cells, seed=seed)
    states = None if chance else GridWorldStates(options.size, breaks=breaks)

    def measure(agent: Any) -> tuple[float, ...]:
        if states is not None:
            success = states.success_rate(agent)
            return (success, *_gate_scores(agent, states, breaks)) if options.gates else (success,)
        environments.seed(20_000)
        return (float(evaluate_episodes(agent, environments, _EPISODES, True).successes.mean()),)

    threshold = math.inf if options.gates else options.threshold
    return EvaluateAndStop(measure, options.eval_freq, threshold, stop_after, most_cpu_seconds)


def _gate_scores(agent: Any, states: GridWorldStates, breaks: Breaks) -> tuple[float, float]:
    """Return how open an agent's gate is on average, and its area under the ROC curve; NaN where there is none."""
    openings, logits = (of(agent, states.observations) for of in (gate_openings, gate_logits))
    if openings is None or logits is None:
        return math.nan, math.nan
    size = states.observations.shape[-1]
    truth = broken_moves(size, breaks, build_symmetry("grid-d4", (3, size, size), 4))[states.agents]
    return float(openings.mean()), roc_area(logits, truth)


def grid_agent(options: GridWorldOptions, spec: AgentSpec, seed: int) -> Any:
    """Return an agent that has learned nothing yet, with all its environments stepped as one batch.

    Args:
        options: The grid.
        spec: The agent.
        seed: Its seed.
    """
    settings = _settings(options, spec)
    environments = make_vectorized_env(_ENVIRONMENT, settings.pop("n_envs"), seed, options.world(seed))
    if spec.method == "sbx":
        # One thread for XLA too; it is read when JAX starts.
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        import sbx

        return sbx.DQN("MlpPolicy", environments, seed=seed, **settings)
    how: dict[str, Any] = {"method": spec.method, "symmetry": spec.symmetry, "method_kwargs": spec.method_kwargs}
    return make_agent("dqn", environments, settings, seed=seed, device=options.device, **how)


GRIDWORLD = Study(
    _stages, lambda options: report_learning(options.out, options.threshold, options.plot, _MOST_DRAWN), _check
)
"""``equirl study rl``."""
