"""After training: how good the final agent is, its learning curve, where the files are, what to type next."""

from __future__ import annotations

import csv
import json
import os
import shlex
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, unwrap_vec_normalize

from equirl.agents.absent_buffer import AbsentBuffer
from equirl.agents.evaluation import evaluate_episodes
from equirl.agents.intervals import interval_text, mean_interval, rate_interval, return_interval
from equirl.agents.policies import POLICY_CLASSES
from equirl.agents.policy_choice import PLAIN, PolicyChoice, symmetry_hint
from equirl.agents.saved_statistics import load_vecnormalize
from equirl.agents.symmetric_policy import SymmetricPolicy
from equirl.files import written_whole

__all__ = ["draw_learning_curve", "draw_training_curve", "next_commands", "summarize"]

_GRID = "equirl/GridWorld-v0"
_MOST_EPISODES = 200
_FEWEST_EPISODES = 5
_N_ENVS = 5


def summarize(manager: ExperimentManager, episodes: int | None = None, exactly: bool = False) -> float | None:
    """Evaluate the saved final agent, draw its learning curve, and print what a user wants to know next.

    Args:
        manager: The experiment manager that trained it.
        episodes: Evaluation episodes. By default 200 in equirl's grid, whose episodes are short; elsewhere as many as
            fit in a tenth of the steps of training, but at least 5 and at most 200.
        exactly: Whether a success rate is required, which takes the 200 episodes everywhere.

    Returns:
        The success rate in [0, 1]; ``None`` if the environment does not report ``is_success``.
    """
    folder = Path(manager.save_path)
    model_file = folder / f"{manager.env_name}.zip"
    # Several at a time, for a policy takes little longer for several states than for one.
    n_envs = 1 if manager.vec_env_class is not DummyVecEnv else max(_N_ENVS, manager.n_eval_envs)
    environment = manager.create_envs(n_envs, eval_env=True, no_log=True)
    environment.seed(manager.seed + 1)  # other episodes than the evaluations during training saw
    _restore_statistics(environment, Path(manager.params_path) / "vecnormalize.pkl")
    no_buffer: dict[str, Any] = (
        {"replay_buffer": AbsentBuffer()} if issubclass(ALGOS[manager.algo], OffPolicyAlgorithm) else {}
    )
    model = ALGOS[manager.algo].load(model_file, device=manager.device, **no_buffer)
    if episodes is None and (exactly or manager.env_name.gym_id == _GRID):
        episodes = _MOST_EPISODES
    deterministic = manager.deterministic_eval
    first = _FEWEST_EPISODES if episodes is None else episodes
    found = evaluate_episodes(model, environment, first, deterministic)
    returns, successes = found.returns, found.successes
    if episodes is None:
        fitting = int(manager.n_timesteps / 10 / max(float(found.lengths.mean()), 1.0))
        more = min(fitting, _MOST_EPISODES) - first
        if more > 0:
            further = evaluate_episodes(model, environment, more, deterministic)
            returns, successes = np.append(returns, further.returns), np.append(successes, further.successes)
    environment.close()
    files = [("model", model_file), ("best model", folder / "best_model.zip")]
    if (evaluations := folder / "evaluations.npz").exists():
        files += [("evaluations", evaluations), ("learning curve", draw_learning_curve(evaluations))]
    elif (curve := draw_training_curve(folder)) is not None:
        files.append(("learning curve", curve))
    if manager.tensorboard_log:
        files.append(("TensorBoard logs", Path(manager.tensorboard_log)))
    print("\nFiles")
    for label, path in files:
        if path.exists():
            print(f"  {label:<17} {path}")
    print("Next")
    for command in next_commands(manager):
        print(f"  {command}")
    wanted = getattr(manager, "choice", None) == PolicyChoice(method=PLAIN)
    if manager.algo in POLICY_CLASSES and not wanted and not isinstance(model.policy, SymmetricPolicy):
        print(f"NOTE: this agent was trained without a symmetry; {symmetry_hint(manager.env_name.gym_id)}")
    known = interval_text(return_interval(returns, successes if len(successes) == len(returns) else None), ".3f")
    print(f"Final agent over {len(returns)} episodes: mean return {np.mean(returns):.3f}, 95 % interval {known}")
    if not len(successes):
        return None
    rate = float(successes.mean())
    known = interval_text(rate_interval(int(successes.sum()), len(successes)), ".3f")
    episodes_said = f"{successes.sum()} of {len(successes)} evaluation episodes"
    print(f"Success rate: {rate:.3f} ({episodes_said}, 95 % interval {known})")
    return rate


def next_commands(manager: ExperimentManager) -> list[str]:
    """Return the commands that show the training and the agent, to be typed in the folder of the training."""
    commands = []
    if manager.tensorboard_log:
        logs = shlex.quote(str(Path(manager.tensorboard_log).parent))
        commands.append(f"{_program('tensorboard')} --logdir {logs}")
    words = ["enjoy", "--run", str(manager.save_path)]  # with -uuid a run has no number of its own
    number = Path(manager.save_path).name.removeprefix(f"{manager.env_name}_")
    if number.isdigit():
        words = ["enjoy", "--algo", manager.algo, "--env", manager.env_name.gym_id, "-f", str(manager.log_folder)]
        words += ["--exp-id", number]
    if packages := getattr(manager.args, "gym_packages", None):
        words += ["--gym-packages", *packages]
    return [*commands, f"{_program('equirl')} {shlex.join(words)}"]


def draw_learning_curve(evaluations: Path) -> Path:
    """Draw SB3's ``evaluations.npz`` as ``learning_curve.png`` beside it and return the picture's path.

    Success rate where the file has it, else mean return; the band is the 95 % interval of the mean over episodes of
    each evaluation: ``rate_interval`` or ``mean_interval``. Where it is not known, there is no band.
    """
    with np.load(evaluations) as data:
        steps = data["timesteps"]
        has_success = "successes" in data
        values: NDArray[np.float64] = np.asarray(data["successes" if has_success else "results"], dtype=float)
    mean = values.mean(axis=1)
    n = values.shape[1]
    if has_success:
        low, high = np.array([rate_interval(round(count), n) for count in values.sum(axis=1).tolist()]).T
    else:
        low, high = mean_interval(values.T)
    band = ", 95 % interval" if np.isfinite(low).any() else ""
    return _draw(
        evaluations.with_name("learning_curve.png"),
        steps,
        mean,
        (low, high),
        "success rate" if has_success else "return",
        f"{evaluations.parent.name}: {n} episodes an evaluation{band}",
    )


def draw_training_curve(folder: Path) -> Path | None:
    """Draw the episodes of training, in a short run that was never evaluated; ``None`` if none came to its end.

    Success rate where all episodes report it, else return: the running mean over up to 100 episodes.

    Args:
        folder: The folder of the run, with the files of SB3's ``Monitor``.
    """
    episodes = _training_episodes(folder)
    if not episodes:
        return None
    lengths, returns, successes = (np.asarray(column) for column in zip(*episodes, strict=True))
    has_success = None not in successes.tolist()
    values = (successes if has_success else returns).astype(float)
    window = min(100, max(1, len(values) // 5))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    mean = (sums[ends] - sums[starts]) / (ends - starts)
    return _draw(
        folder / "learning_curve.png",
        np.cumsum(lengths),
        mean,
        None,
        "success rate" if has_success else "return",
        f"{folder.name}: training episodes, mean over {window}",
    )


def _training_episodes(folder: Path) -> list[tuple[int, float, float | None]]:
    """Return length, return and success of the episodes that SB3's ``Monitor`` wrote down, in the order of their ends.

    SB3's ``load_results`` gives the same as a data frame; importing pandas for it takes half a second.
    """
    episodes = []
    for path in folder.glob("*monitor.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            start = float(json.loads(file.readline()[1:])["t_start"])
            for row in csv.DictReader(file):
                success = row.get("is_success")
                solved = None if success is None else float(success in ("True", "1", "1.0"))
                episodes.append((start + float(row["t"]), int(row["l"]), float(row["r"]), solved))
    return [episode[1:] for episode in sorted(episodes, key=itemgetter(0))]


def _draw(
    picture: Path,
    steps: NDArray[Any],
    mean: NDArray[np.float64],
    band: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    quantity: str,
    title: str,
) -> Path:
    from matplotlib.figure import Figure  # slow, so only when it is needed

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, mean, marker="o" if band else None, markersize=3)
    if band is not None:
        axes.fill_between(steps, *band, alpha=0.2)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(quantity)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return picture


def _restore_statistics(environment: VecEnv, file: Path) -> None:
    """Give a new environment the statistics with which the agent was trained, if it normalises."""
    normalized = unwrap_vec_normalize(environment)
    if normalized is not None and file.is_file():
        saved = load_vecnormalize(file, normalized.venv)
        for name in ("obs_rms", "ret_rms"):
            if name in vars(saved):  # observations may not be normalised
                setattr(normalized, name, getattr(saved, name))


def _program(name: str) -> str:
    """Return how to call a program of this environment from here: by name if it is on the path, else by its file."""
    beside = Path(sys.executable).parent / name
    on_path = any(Path(folder) == beside.parent for folder in os.environ.get("PATH", "").split(os.pathsep))
    if on_path or not beside.exists():
        return name
    return shlex.quote(os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside))
