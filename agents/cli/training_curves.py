"""Training curves of many runs: which runs belong together, and one curve with a band for each such group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from equirl.agents.cli.runs import Run, run_of
from equirl.agents.cli.zoo import folder_name, import_packages
from equirl.agents.interquartile import interquartile_mean
from equirl.agents.policy_choice import PLAIN, policy_kwargs_of, symmetry_and_method

__all__ = ["Curve", "RunGroup", "TrainingRun", "curve_of", "group_runs", "read_runs"]

Array = NDArray[np.float64]

_ENOUGH = 0.8
"""Share of the median length of its group that a run needs; a shorter one would cut the curve of all."""

_NOT_SETTINGS = ("policy", "policy_kwargs", "callback", "n_timesteps", "monitor_kwargs", "env_wrapper")
_SYMMETRY_KEYS = ("symmetry", "method")
_BUFFERS = ("replay_buffer", "rollout_buffer")
_POINTS = 200


@dataclass(frozen=True)
class TrainingRun:
    """One run, with its episodes.

    Attributes:
        folder: Its folder.
        environment: As folders name it: slashes are dashes.
        agent: ``"plain"``, ``"SYMMETRY/METHOD"`` or ``"SYMMETRY/augmentation"``; the folder's name where its files do
            not tell.
        seed: Its seed; ``None`` where its files do not tell.
        settings: Name to text of all other settings.
        episodes: Returns ``r``, lengths ``l``, times ``t`` and perhaps ``is_success``, as SB3's ``Monitor`` wrote them;
            ``None`` if there are none.
    """

    folder: Path
    environment: str
    agent: str
    seed: int | None
    settings: dict[str, str]
    episodes: Any


@dataclass
class RunGroup:
    """Runs that differ by the seed alone.

    Attributes:
        label: What the legend calls them.
        runs: The runs.
    """

    label: str
    runs: list[TrainingRun] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """Interquartile mean over the runs of a group, their least and their greatest value; all ``[T]``."""

    x: Array
    middle: Array
    low: Array
    high: Array


def read_runs(inside: Path, environments: Sequence[str]) -> list[TrainingRun]:
    """Return the runs of environments in the folder of an algorithm, in the order of their numbers.

    Args:
        inside: Such as ``logs/dqn``.
        environments: Ids.

    Raises:
        ValueError: A file of a run cannot be read; the message names it.
    """
    found = []
    for name in map(folder_name, environments):
        matches = [(re.fullmatch(rf"{re.escape(name)}_(\d+)(?:_.*)?", path.name), path) for path in inside.iterdir()]
        numbered = sorted((int(match[1]), path) for match, path in matches if match and path.is_dir())
        found += [_read(path, name) for _, path in numbered]
    return found


def _read(folder: Path, environment: str) -> TrainingRun:
    run = run_of(folder / "agent.zip")
    if run is None or not run.arguments:
        return TrainingRun(folder, environment, folder.name, None, {}, _episodes(folder))
    settings = {f"{key}": str(value) for key, value in run.environment_settings.items()}
    settings |= {key: str(value) for key, value in run.hyperparameters.items() if key not in _NOT_SETTINGS}
    kept = {key: value for key, value in policy_kwargs_of(run.hyperparameters).items() if key not in _SYMMETRY_KEYS}
    if kept:
        settings["policy_kwargs"] = str(kept)
    for buffer in _BUFFERS:
        settings.pop(f"{buffer}_class", None)
        settings.pop(f"{buffer}_kwargs", None)
    return TrainingRun(folder, environment, _agent_of(run), run.arguments.get("seed"), settings, _episodes(folder))


def _agent_of(run: Run) -> str:
    """Return the name of what a run trained."""
    if run.arguments.get("trained_agent"):
        return f"{run.folder.name}, continued"
    policy = str(run.hyperparameters.get("policy", ""))
    try:
        import_packages(run.packages)  # they may register the symmetry
        found = symmetry_and_method(policy, policy_kwargs_of(run.hyperparameters))
    except ValueError:  # a module is not there any more
        return policy.rpartition(".")[2]
    parts = []
    if found["symmetry"] is not None:
        parts = [_name(found["symmetry"]), str(found["method"] or "lambda_equitune")]
    for buffer in _BUFFERS:
        if "Symmetry" in str(run.hyperparameters.get(f"{buffer}_class", "")):
            given = policy_kwargs_of({"policy_kwargs": run.hyperparameters.get(f"{buffer}_kwargs")})
            parts = [parts[0] if parts else _name(given.get("symmetry")), *parts[1:], "augmentation"]
    return f"{parts[0]}/{'+'.join(parts[1:])}" if parts else PLAIN


def _name(symmetry: Any) -> str:
    return str(getattr(symmetry, "name", symmetry))


def _episodes(folder: Path) -> Any:
    from stable_baselines3.common.monitor import LoadMonitorResultsError, load_results

    try:
        episodes = load_results(str(folder))
    except LoadMonitorResultsError:
        return None
    except Exception as error:  # whatever a damaged file makes of JSON and pandas
        reason = " ".join(str(error).split())
        raise ValueError(
            f"the monitor file in {folder} cannot be read ({type(error).__name__}: {reason}); move the folder away"
        ) from error
    return None if episodes.empty else episodes


def group_runs(runs: Iterable[TrainingRun]) -> tuple[list[RunGroup], dict[str, str]]:
    """Return the runs that belong together, and why runs are left out: of two with one seed, and of one much shorter.

    Runs belong together if environment, symmetry, method and all settings agree. Where two groups have the same name,
    the settings in which they differ are added to it.

    Args:
        runs: With episodes.

    Returns:
        The groups; and name of the folder to the reason, for each run that is in none.
    """
    grouped: dict[tuple[str, str, tuple[tuple[str, str], ...]], list[TrainingRun]] = {}
    for run in runs:
        grouped.setdefault((run.environment, run.agent, tuple(sorted(run.settings.items()))), []).append(run)
    several = len({environment for environment, *_ in grouped}) > 1
    left_out: dict[str, str] = {}
    groups = []
    for (environment, agent, settings), members in grouped.items():
        others = [dict(key[2]) for key in grouped if key[:2] == (environment, agent)]
        differing = [(k, v) for k, v in _all_keys(settings, others) if len({other.get(k) for other in others}) > 1]
        told = ", ".join([agent, *(f"{key}={value}" for key, value in differing)])
        kept = _without_repeats(members, left_out)
        groups.append(RunGroup(f"{environment}: {told}" if several else told, _without_short(kept, left_out)))
    return groups, left_out


def _all_keys(settings: tuple[tuple[str, str], ...], others: list[dict[str, str]]) -> list[tuple[str, str]]:
    keys = sorted({key for other in others for key in other})
    return [(key, dict(settings).get(key, "default")) for key in keys]


def _without_repeats(runs: list[TrainingRun], left_out: dict[str, str]) -> list[TrainingRun]:
    last = {run.seed: run for run in runs if run.seed is not None}
    for run in runs:
        if run.seed is not None and run is not last[run.seed]:
            left_out[run.folder.name] = f"has the seed {run.seed}, as the later {last[run.seed].folder.name} has"
    return [run for run in runs if run.folder.name not in left_out]


def _without_short(runs: list[TrainingRun], left_out: dict[str, str]) -> list[TrainingRun]:
    steps = {run.folder.name: int(run.episodes["l"].sum()) for run in runs}
    median = float(np.median(list(steps.values())))
    for name, length in steps.items():
        if length < _ENOUGH * median:
            left_out[name] = f"ends after {length:,} steps, others like it after {median:,.0f}; -max {length} draws it"
    return [run for run in runs if run.folder.name not in left_out]


def curve_of(runs: Sequence[TrainingRun], x_axis: str, y_column: str, window: int) -> Curve:
    """Return the curve of runs: rolling means over episodes, averaged over the runs as far as all of them go.

    Args:
        runs: Each with at least ``window`` episodes.
        x_axis: ``"steps"``, ``"episodes"`` or ``"time"`` (hours).
        y_column: Column of the episodes.
        window: Episodes of the rolling mean.
    """
    lines = []
    for run in runs:
        episodes = run.episodes
        x = {
            "steps": lambda frame: frame["l"].cumsum(),
            "episodes": lambda frame: frame["l"].notna().cumsum(),
            "time": lambda frame: frame["t"] / 3600,
        }[x_axis](episodes)
        mean = episodes[y_column].astype(float).rolling(window).mean()
        lines.append((x.to_numpy(float)[window - 1 :], mean.to_numpy(float)[window - 1 :]))
    if len(lines) == 1:
        x, y = lines[0]
        return Curve(x, y, y, y)
    start, end = max(x[0] for x, _ in lines), min(x[-1] for x, _ in lines)
    grid = np.linspace(min(start, end), end, _POINTS)
    values = np.array([np.interp(grid, x, y) for x, y in lines])
    return Curve(grid, interquartile_mean(values), values.min(axis=0), values.max(axis=0))
