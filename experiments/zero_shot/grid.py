"""DQN trained on goals in one quadrant of the grid, symmetrized, and evaluated on the other three."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback

from equirl.agents import Disagreement, EquivariantQNetwork, LambdaFit, replay_observations, symmetrize_agent
from equirl.envs import region_cells
from equirl.experiments.checks import check_counts, check_names, check_shares
from equirl.experiments.exact_evaluation import GridWorldStates
from equirl.experiments.hyperparameters import settings_for
from equirl.experiments.outputs import check_output_folder, write_tables
from equirl.experiments.runs import Rows, run_file, run_missing
from equirl.files import written_whole
from equirl.symmetry import build_symmetry, registered_symmetries

__all__ = ["COLUMNS", "QUADRANT", "VARIANTS", "Variant", "ZeroShotConfig", "run_zero_shot"]

QUADRANT = "north-west"

COLUMNS = (
    "group",
    "variant",
    "seed",
    "pretrain_steps",
    "success_known",
    "success_unseen",
    "seconds",
    "familiar_share",
    "value_familiar",
    "value_unfamiliar",
)

_ENVIRONMENT = "equirl/GridWorld-v0"
_EVAL_FREQ = 500


@dataclass(frozen=True)
class Variant:
    """One way to symmetrize: a method, its settings, and for λ how it is fitted and on how many states."""

    method: str | None
    method_kwargs: Mapping[str, Any] = field(default_factory=dict)
    fit: LambdaFit = field(default_factory=LambdaFit)
    n_states: int = 10_000


VARIANTS: dict[str, Variant] = {
    "plain": Variant(None),
    "equitune": Variant("equitune"),
    "equizero, max_value": Variant("equizero", {"proxy_loss": "max_value"}),
    "equizero, entropy": Variant("equizero", {"proxy_loss": "entropy"}),
    "equizero, confidence": Variant("equizero", {"proxy_loss": "confidence"}),
    "equizero, target_disagreement": Variant("equizero", {"proxy_loss": "target_disagreement"}),
    "equizero, ensemble of the seeds": Variant("equizero", {"proxy_loss": "ensemble"}),
    "equizero, bellman_residual": Variant("equizero", {"proxy_loss": "bellman_residual"}),
    "equizero, novelty": Variant("equizero", {"proxy_loss": "novelty"}),
    "λ-equitune, inputs": Variant("lambda_equitune", {"reads": "inputs", "hidden": (64,)}),
    "λ-equitune, inputs, linear": Variant("lambda_equitune", {"reads": "inputs", "hidden": ()}),
    "λ-equitune, features": Variant("lambda_equitune", {"reads": "features", "hidden": (64,)}),
    "λ-equitune, features, linear": Variant("lambda_equitune", {"reads": "features", "hidden": ()}),
    "λ-equitune, inputs, recognize": Variant(
        "lambda_equitune", {"reads": "inputs", "hidden": (64,)}, fit=LambdaFit(objective="recognize")
    ),
    "λ-equitune, inputs, 300 states": Variant("lambda_equitune", {"reads": "inputs", "hidden": (64,)}, n_states=300),
    "λ-equitune, inputs, random states": Variant("lambda_equitune", {"reads": "inputs", "hidden": (64,)}, n_states=0),
}
"""What is compared, by name. ``n_states=0``: λ fitted on uniformly drawn states, most of which the agent never saw."""


@dataclass(frozen=True)
class ZeroShotConfig:
    """Settings of the study; every one is recorded beside the results."""

    groups: tuple[str, ...] = ("grid-c4", "grid-d4")
    """Symmetries, by name."""
    variants: tuple[str, ...] = tuple(VARIANTS)
    """What is compared, by name."""
    n_seeds: int = 5
    """Seeds 0 .. n_seeds - 1 of the pretrained agents."""
    size: int = 7
    """Rows and columns of the grid."""
    pretrain_threshold: float = 0.975
    """Pretraining ends after three evaluations in a row at this success rate over all states with known goals."""
    total_timesteps: int = 40_000
    """Environment steps after which pretraining ends in any case."""
    n_jobs: int = 2
    """Runs at a time, one torch thread each."""
    out: Path = Path("logs/benchmark/zero_shot")
    """Folder of the results."""
    report_only: bool = False
    """Only write the table and the plot again, from the CSV."""

    def __post_init__(self) -> None:
        check_names("group", self.groups, registered_symmetries())
        check_names("variant", self.variants, VARIANTS)
        check_counts(self, "n_seeds", "n_jobs")
        check_counts(self, "size", least=2)
        check_counts(self, "total_timesteps", least=_EVAL_FREQ)
        check_shares(self, "pretrain_threshold")
        if not _variants(self):
            raise ValueError(f"variant {self.variants[0]!r} asks agents of other seeds; give n_seeds of at least 2")


_Job = tuple[ZeroShotConfig, int]


def run_zero_shot(config: ZeroShotConfig) -> None:
    """Run what is not done yet and write ``study.csv`` and ``record.json`` into ``config.out``.

    First all agents are pretrained, then each is symmetrized: one proxy loss asks the agents of the other seeds.

    Raises:
        ValueError: A symmetry that is none of this grid, or a folder that cannot be written to.
    """
    check_output_folder(config.out)
    for group in config.groups:
        build_symmetry(group, (3, config.size, config.size), 4)
    for name in config.variants:
        if name not in _variants(config):
            print(f"left out: {name}, which asks agents of other seeds; it needs --n-seeds of at least 2")
    jobs: list[_Job] = [(config, seed) for seed in range(config.n_seeds)]
    for job in jobs:
        path = _pretrain_file(job)
        if not all(path.with_suffix(suffix).exists() for suffix in (".zip", ".pkl")):
            path.unlink(missing_ok=True)  # the agent is gone: it is to be trained again
    run_missing(jobs, _pretrain, _pretrain_file, ("timesteps", "success_known", "success_unseen"), config.n_jobs)
    run_missing(jobs, _symmetrize, _result_file, COLUMNS, config.n_jobs)
    write_tables(config.out, {"study.csv": (COLUMNS, [_result_file(job) for job in jobs])}, config)


def _variants(config: ZeroShotConfig) -> dict[str, Variant]:
    """Return the variants that can be made: an ensemble of the seeds needs two."""
    return {
        name: VARIANTS[name]
        for name in config.variants
        if config.n_seeds > 1 or VARIANTS[name].method_kwargs.get("proxy_loss") != "ensemble"
    }


def _pretrain_file(job: _Job) -> Path:
    config, seed = job
    settings = settings_for("dqn", _ENVIRONMENT, config.total_timesteps)
    decisive = [config.size, config.pretrain_threshold, config.total_timesteps, settings]
    return run_file(config.out, f"pretrain-seed{seed}", decisive)


def _result_file(job: _Job) -> Path:
    config, seed = job
    variants = _variants(config)
    return run_file(config.out, f"zero-shot-seed{seed}", [_pretrain_file(job).name, config.groups, str(variants)])


class _Goals:
    """The states with goals in the known quadrant, and the others."""

    def __init__(self, size: int) -> None:
        self.states = GridWorldStates(size)
        self.known: NDArray[np.bool_] = np.isin(self.states.goals, region_cells(QUADRANT, size))

    def rates(self, model: DQN) -> tuple[float, float]:
        """Return success over all starts with known goals, and with goals in the three other quadrants."""
        successes = self.states.successes(model)
        return round(float(successes[self.known].mean()), 4), round(float(successes[~self.known].mean()), 4)


def _pretrain(job: _Job) -> Rows:
    config, seed = job
    torch.set_num_threads(1)
    settings = settings_for("dqn", _ENVIRONMENT, config.total_timesteps)
    del settings["n_envs"]
    environment = gym.make(_ENVIRONMENT, size=config.size, goal=QUADRANT)
    model = DQN("MlpPolicy", environment, seed=seed, device="cpu", **settings)
    evaluation = _Pretraining(config)
    model.learn(config.total_timesteps, callback=evaluation)
    path = _pretrain_file(job)
    with written_whole(path.with_suffix(".zip")) as temporary:
        model.save(temporary)
    with written_whole(path.with_suffix(".pkl")) as temporary:
        model.save_replay_buffer(temporary)
    print(f"pretrained seed {seed}: {evaluation.rows[-1]}", flush=True)
    return evaluation.rows


class _Pretraining(BaseCallback):
    """Evaluates every 500 steps over all states and ends the run once the known quadrant is learned."""

    def __init__(self, config: ZeroShotConfig) -> None:
        super().__init__()
        self._threshold = config.pretrain_threshold
        self._goals = _Goals(config.size)
        self._in_a_row = 0
        self.rows: list[tuple[Any, ...]] = []

    def _on_step(self) -> bool:
        if self.num_timesteps % _EVAL_FREQ:
            return True
        known, unseen = self._goals.rates(cast(DQN, self.model))
        self.rows.append((self.num_timesteps, known, unseen))
        self._in_a_row = self._in_a_row + 1 if known >= self._threshold else 0
        return self._in_a_row < 3


def _symmetrize(job: _Job) -> Rows:
    config, seed = job
    torch.set_num_threads(1)
    agents = [_load((config, other)) for other in range(config.n_seeds)]
    model = agents[seed]
    others = [agent.q_net for k, agent in enumerate(agents) if k != seed]
    goals = _Goals(config.size)
    rows: list[tuple[Any, ...]] = []
    for group in config.groups:
        for name in _variants(config):
            started = time.perf_counter()
            symmetrized = _variant(model, group, VARIANTS[name], others, goals)
            seconds = round(time.perf_counter() - started, 2)
            measured = (*goals.rates(symmetrized), seconds, *_choice(symmetrized, goals, config.size))
            rows.append((group, name, seed, model.num_timesteps, *measured))
            print(f"{group} {name} seed {seed}: known {measured[0]}, unseen {measured[1]}, {seconds} s", flush=True)
    return rows


def _load(job: _Job) -> DQN:
    path = _pretrain_file(job)
    model = DQN.load(path.with_suffix(".zip"), device="cpu")
    model.load_replay_buffer(path.with_suffix(".pkl"))
    return model


def _variant(model: DQN, group: str, variant: Variant, others: list[Any], goals: _Goals) -> DQN:
    if variant.method is None:
        return model
    settings = dict(variant.method_kwargs)
    if settings.get("proxy_loss") == "ensemble":
        settings["proxy_loss"] = Disagreement(others)
    observations = None
    if variant.method == "lambda_equitune":
        if variant.n_states:
            observations = replay_observations(model, variant.n_states)
        else:
            observations = torch.as_tensor(goals.states.observations)
    return symmetrize_agent(model, group, variant.method, settings, observations=observations, fit=variant.fit)


def _choice(model: DQN, goals: _Goals, size: int) -> tuple[Any, Any, Any]:
    """Return how much weight goes to views whose goal is in the known quadrant, and the values of both kinds of view.

    Over the states with goals elsewhere, every one of which has familiar and unfamiliar views.
    """
    network = model.q_net
    if not isinstance(network, EquivariantQNetwork):
        return "", "", ""
    with torch.no_grad():
        orbit = network.evaluate_orbit(torch.as_tensor(goals.states.observations[~goals.known]))
        weights = network.aggregator.weights(orbit)
    goal_planes = cast(torch.Tensor, orbit.inputs)[:, :, 1].flatten(2)
    known_cells = torch.zeros(size * size)
    known_cells[torch.as_tensor(region_cells(QUADRANT, size))] = 1
    familiar = (goal_planes.float() @ known_cells) > 0
    values = orbit.outputs.amax(dim=2)
    share = float((weights * familiar).sum(dim=1).mean())
    return round(share, 4), round(float(values[familiar].mean()), 4), round(float(values[~familiar].mean()), 4)
