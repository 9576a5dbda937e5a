"""``equirl study zero-shot``: DQN trained on goals in one quadrant of the grid, symmetrized, tried on the others."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, cast

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
import tyro
from matplotlib.figure import Figure
from numpy.typing import NDArray
from stable_baselines3 import DQN
from torch import Tensor, nn

from equirl.agents import Disagreement, EquivariantQNetwork, LambdaFit, replay_observations, symmetrize_agent
from equirl.agents.cli.option_checks import check_counts, check_shares
from equirl.agents.comparison import make_agent
from equirl.agents.evaluate_and_stop import EvaluateAndStop
from equirl.agents.our_hyperparameters import settings_for
from equirl.envs import region_cells
from equirl.envs.gridworld_states import GridWorldStates
from equirl.experiments.figures import COLORS, legend_outside, make_panels, name_rows, reference_line
from equirl.experiments.study import Report, Stage, Study, StudyOptions
from equirl.experiments.tables import Rows, markdown_table, read_study
from equirl.files import written_whole
from equirl.names import check_names
from equirl.symmetry import build_symmetry, registered_symmetries

__all__ = ["COLUMNS", "QUADRANT", "VARIANTS", "ZERO_SHOT", "Variant", "ZeroShotOptions", "symmetrized"]

QUADRANT = "north-west"

COLUMNS = (
    *("group", "variant", "seed", "pretrain_steps", "success_known", "success_unseen", "seconds"),
    *("familiar_share", "value_familiar", "value_unfamiliar"),
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

    @property
    def asks_others(self) -> bool:
        """Whether it needs agents of other seeds."""
        return self.method_kwargs.get("proxy_loss") == "ensemble"


_INPUTS = {"reads": "inputs", "hidden": (64,)}

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
    "λ-equitune, inputs": Variant("lambda_equitune", _INPUTS),
    "λ-equitune, inputs, linear": Variant("lambda_equitune", {"reads": "inputs", "hidden": ()}),
    "λ-equitune, features": Variant("lambda_equitune", {"reads": "features", "hidden": (64,)}),
    "λ-equitune, features, linear": Variant("lambda_equitune", {"reads": "features", "hidden": ()}),
    "λ-equitune, inputs, recognize": Variant("lambda_equitune", _INPUTS, fit=LambdaFit(objective="recognize")),
    "λ-equitune, inputs, 300 states": Variant("lambda_equitune", _INPUTS, n_states=300),
    "λ-equitune, inputs, random states": Variant("lambda_equitune", _INPUTS, n_states=0),
}
"""What is compared, by name. ``n_states=0``: λ fitted on uniformly drawn states, most of which the agent never saw."""

if TYPE_CHECKING:
    VariantName: TypeAlias = str
else:
    VariantName = Literal[tuple(VARIANTS)]


@dataclass(frozen=True)
class ZeroShotOptions(StudyOptions):
    """DQN trained on goals in one quadrant of the grid, then symmetrized: the other three quadrants."""

    out: Path = Path("logs/study/zero_shot")
    """Folder of the results and the pretrained agents."""
    groups: tuple[str, ...] = ("grid-c4", "grid-d4")
    """Symmetries, by name."""
    # The names have commas in them: the help is to list them once, quoted.
    variants: Annotated[tuple[VariantName, ...], tyro.conf.arg(metavar="NAME ...")] = tuple(VARIANTS)
    """What is compared, by name."""
    size: int = 7
    """Rows and columns of the grid."""
    pretrain_threshold: float = 0.975
    """Pretraining ends after three evaluations in a row at this success rate over all states with known goals."""
    total_timesteps: int = 40_000
    """Environment steps after which pretraining ends in any case."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("group", self.groups, registered_symmetries())
        check_names("variant", self.variants, VARIANTS)
        check_counts(self, "size", least=2)
        check_counts(self, "total_timesteps", least=_EVAL_FREQ)
        check_shares(self, "pretrain_threshold")
        if not _variants(self):
            raise ValueError(f"variant {self.variants[0]!r} asks agents of other seeds; give seeds of at least 2")


_Job = tuple[ZeroShotOptions, int]


def _check(options: ZeroShotOptions) -> None:
    for group in options.groups:
        build_symmetry(group, (3, options.size, options.size), 4)
    for name in options.variants:
        if name not in _variants(options):
            print(f"left out: {name}, which asks agents of other seeds; it needs --seeds of at least 2")


def _stages(options: ZeroShotOptions) -> list[Stage[_Job]]:
    """Return two stages: all agents are pretrained before one is symmetrized, as one loss asks the other agents."""
    jobs = [(options, seed) for seed in range(options.seeds)]
    columns = ("timesteps", "success_known", "success_unseen")
    return [
        Stage(jobs, _pretrain, _pretrain_file, columns, table=None, leaves=(".zip", ".pkl")),
        Stage(jobs, _symmetrize, _result_file, COLUMNS),
    ]


def _variants(options: ZeroShotOptions) -> dict[str, Variant]:
    """Return the variants that can be made: an ensemble of the seeds needs two."""
    return {name: VARIANTS[name] for name in options.variants if options.seeds > 1 or not VARIANTS[name].asks_others}


def _pretrain_file(job: _Job) -> Path:
    options, seed = job
    settings = settings_for("dqn", _ENVIRONMENT, options.total_timesteps, "in one environment")
    decisive = [options.size, options.pretrain_threshold, options.total_timesteps, settings]
    return options.run_file(f"pretrain-seed{seed}", *decisive)


def _result_file(job: _Job) -> Path:
    options, seed = job
    variants = _variants(options)
    others = options.seeds if any(variant.asks_others for variant in variants.values()) else None
    decisive = [_pretrain_file(job).name, options.groups, others, str(variants)]
    return options.run_file(f"zero-shot-seed{seed}", *decisive)


class _Goals:
    """The states with goals in the known quadrant, and the others."""

    def __init__(self, size: int) -> None:
        self.size, self.states = size, GridWorldStates(size)
        self.known: NDArray[np.bool_] = np.isin(self.states.goals, region_cells(QUADRANT, size))

    def rates(self, model: DQN) -> tuple[float, float]:
        """Return success over all starts with known goals, and with goals in the three other quadrants."""
        successes = self.states.successes(model)
        return round(float(successes[self.known].mean()), 4), round(float(successes[~self.known].mean()), 4)


def _pretrain(job: _Job) -> Rows:
    options, seed = job
    settings = settings_for("dqn", _ENVIRONMENT, options.total_timesteps, "in one environment")
    environment = gym.make(_ENVIRONMENT, size=options.size, goal=QUADRANT)
    model = make_agent("dqn", environment, settings, seed=seed, device=options.device)
    callback = EvaluateAndStop(_Goals(options.size).rates, _EVAL_FREQ, options.pretrain_threshold, stop_after=3)
    model.learn(options.total_timesteps, callback=callback)
    path = _pretrain_file(job)
    with written_whole(path.with_suffix(".zip")) as temporary:
        model.save(temporary)
    with written_whole(path.with_suffix(".pkl")) as temporary:
        model.save_replay_buffer(temporary)
    rows = [(e.timesteps, *e.scores) for e in callback.evaluations]
    print(f"pretrained seed {seed}: {rows[-1]}", flush=True)
    return rows


def _symmetrize(job: _Job) -> Rows:
    options, seed = job
    agents = [_load((options, other)) for other in range(options.seeds)]
    model = agents[seed]
    others = [agent.q_net for k, agent in enumerate(agents) if k != seed]
    goals = _Goals(options.size)
    states = torch.as_tensor(goals.states.observations)
    rows: list[tuple[Any, ...]] = []
    for group in options.groups:
        for name, variant in _variants(options).items():
            started = time.perf_counter()
            agent = symmetrized(model, group, variant, others, states)
            seconds = round(time.perf_counter() - started, 2)
            known, unseen = goals.rates(agent)
            choice = _choice(agent, goals)
            rows.append((group, name, seed, model.num_timesteps, known, unseen, seconds, *choice))
            print(f"{group} {name} seed {seed}: known {known}, unseen {unseen}, {seconds} s", flush=True)
    return rows


def _load(job: _Job) -> DQN:
    options, path = job[0], _pretrain_file(job)
    model = DQN.load(path.with_suffix(".zip"), device=options.device)
    model.load_replay_buffer(path.with_suffix(".pkl"))
    return model


def symmetrized(
    model: DQN, symmetry: str, variant: Variant, others: Sequence[nn.Module] = (), states: Tensor | None = None
) -> DQN:
    """Return an agent made equivariant, or itself where it is to stay plain.

    Args:
        model: A trained agent with its replay buffer.
        symmetry: Name of the symmetry.
        variant: How.
        others: Q-networks of other seeds, for a variant that asks them.
        states: What λ is fitted on where the variant draws none from the replay buffer.
    """
    if variant.method is None:
        return model
    settings = dict(variant.method_kwargs) | ({"proxy_loss": Disagreement(others)} if variant.asks_others else {})
    observations = None
    if variant.method == "lambda_equitune":
        observations = replay_observations(model, variant.n_states) if variant.n_states else states
    return symmetrize_agent(model, symmetry, variant.method, settings, observations=observations, fit=variant.fit)


def _choice(model: DQN, goals: _Goals) -> tuple[Any, Any, Any]:
    """Return how much weight goes to views whose goal is in the known quadrant, and the values of both kinds of view.

    Over the states with goals elsewhere, every one of which has familiar and unfamiliar views.
    """
    network = model.q_net
    if not isinstance(network, EquivariantQNetwork):
        return "", "", ""
    with torch.no_grad():
        orbit = network.evaluate_orbit(torch.as_tensor(goals.states.observations[~goals.known], device=model.device))
        weights = network.aggregator.weights(orbit)
    goal_planes = cast(Tensor, orbit.inputs)[:, :, 1].flatten(2)
    known_cells = torch.zeros(goals.size**2, device=model.device)
    known_cells[torch.as_tensor(region_cells(QUADRANT, goals.size))] = 1
    familiar = (goal_planes.float() @ known_cells) > 0
    values = orbit.outputs.amax(dim=2)
    share = float((weights * familiar).sum(dim=1).mean())
    return round(share, 4), round(float(values[familiar].mean()), 4), round(float(values[~familiar].mean()), 4)


def _report(options: ZeroShotOptions) -> Report:
    path, needed = options.out / "study.csv", (*COLUMNS[:3], *COLUMNS[4:])
    study = read_study(path, needed, "equirl study zero-shot", numbers=needed[2:], dtype={"variant": str})
    variants = {group: set(rows.variant) for group, rows in study.groupby("group", dropna=False)}
    for group, known in variants.items():
        if known != set(study.variant):
            lacking = ", ".join(sorted(map(str, set(study.variant) - known)))
            raise ValueError(f"{path}: the group {group} has no rows of {lacking}; it is damaged")
    rows = []
    for (group, variant), runs in study.groupby(["group", "variant"], sort=False):
        if variant == "plain" and group != study.group.iloc[0]:
            continue  # the same agents under every group
        own = variant != "plain"
        successes = (runs.success_known.mean(), runs.success_unseen.mean(), runs.success_unseen.min())
        choice = ("-" if runs[c].isna().any() else f"{runs[c].mean():.2f}" for c in COLUMNS[-3:])
        seconds = f"{runs.seconds.median():.1f}" if own else "-"
        rows.append((group if own else "-", variant, *(f"{rate:.3f}" for rate in successes), *choice, seconds))
    heads = ("group", "variant", "known quadrant", "three unseen", "unseen, worst seed", "familiar views")
    text = markdown_table((*heads, "max Q familiar", "max Q unfamiliar", "seconds"), rows)
    return Report(text, {"success.png": _draw(study)})


def _draw(study: pd.DataFrame) -> Figure:
    groups, variants = list(study.group.unique()), list(study.variant.unique())
    figure, (panels,) = make_panels(
        1, len(groups), width=2.6 + 3.6 * len(groups), height=0.34 * len(variants) + 1.6, share_y=True
    )
    rows = np.arange(len(variants))
    for axes, group in zip(panels, groups, strict=True):
        for shift, column, label, color in (
            (-0.2, "success_known", "known quadrant", COLORS[6]),
            (0.2, "success_unseen", "three unseen quadrants", COLORS[1]),
        ):
            table = study[study.group == group].pivot_table(index="variant", columns="seed", values=column, sort=False)
            values = table.reindex(variants).to_numpy()  # a variant without a number is not in the table
            axes.barh(rows + shift, values.mean(axis=1), height=0.38, label=label, color=color)
            for seed in range(values.shape[1]):
                axes.plot(values[:, seed], rows + shift, "k.", markersize=3, label="one seed")
        reference_line(axes, 0.95, "0.95", horizontal=False)
        axes.set(xlabel="success rate over all states", xlim=(0, 1.02))
        axes.set_title(f"{group}: mean of {study.seed.nunique()} seeds", fontsize=10)
        name_rows(axes, variants)
    legend_outside(figure)
    return figure


ZERO_SHOT = Study(_stages, _report, _check)
"""``equirl study zero-shot``."""
