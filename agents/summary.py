"""After training: how good the final agent is, its learning curve, where the files are, what to type next."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import ALGOS
from stable_baselines3.common.evaluation import evaluate_policy

from equirl.agents.files import written_whole

__all__ = ["draw_learning_curve", "summarize"]


def summarize(manager: ExperimentManager, episodes: int) -> float | None:
    """Evaluate the saved final agent, draw its learning curve, and print what a user wants to know next.

    Args:
        manager: The experiment manager that trained it.
        episodes: Evaluation episodes.

    Returns:
        The success rate in [0, 1]; ``None`` if the environment does not report ``is_success``.
    """
    folder = Path(manager.save_path)
    model_file = folder / f"{manager.env_name}.zip"
    environment = manager.create_envs(1, eval_env=True, no_log=True)
    environment.seed(manager.seed + 1)  # other episodes than the evaluations during training saw
    successes: list[bool] = []

    def note_success(local: dict[str, Any], _: dict[str, Any]) -> None:
        if local["done"] and "is_success" in local["info"]:
            successes.append(bool(local["info"]["is_success"]))

    model = ALGOS[manager.algo].load(model_file, device=manager.device)
    returns, _ = evaluate_policy(
        model,
        environment,
        n_eval_episodes=episodes,
        deterministic=manager.deterministic_eval,
        callback=note_success,
        return_episode_rewards=True,
    )
    environment.close()
    files = [("model", model_file), ("best model", folder / "best_model.zip")]
    if (evaluations := folder / "evaluations.npz").exists():
        files += [("evaluations", evaluations), ("learning curve", draw_learning_curve(evaluations))]
    if manager.tensorboard_log:
        files.append(("TensorBoard logs", Path(manager.tensorboard_log)))
    print("\nFiles")
    for label, path in files:
        if path.exists():
            print(f"  {label:<17} {path}")
    print("Next")
    if manager.tensorboard_log:
        print(f"  {_program('tensorboard')} --logdir {Path(manager.tensorboard_log).parent}")
    where = f"--algo {manager.algo} --env {manager.env_name.gym_id} -f {manager.log_folder}"
    print(f"  {_program('equirl')} enjoy {where}")
    print(f"Final agent over {episodes} episodes: mean return {np.mean(returns):.3f} ± {np.std(returns):.3f}")
    if not successes:
        return None
    rate = float(np.mean(successes))
    print(f"Success rate: {rate:.3f} ({sum(successes)} of {len(successes)} evaluation episodes)")
    return rate


def draw_learning_curve(evaluations: Path) -> Path:
    """Draw SB3's ``evaluations.npz`` as ``learning_curve.png`` beside it and return the picture's path.

    Success rate where the file has it, else mean return; the band is the 95 % interval of the mean over episodes.
    """
    with np.load(evaluations) as data:
        steps = data["timesteps"]
        has_success = "successes" in data
        values: NDArray[np.float64] = np.asarray(data["successes" if has_success else "results"], dtype=float)
    mean = values.mean(axis=1)
    half = 1.96 * values.std(axis=1) / np.sqrt(values.shape[1])
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, mean, marker="o", markersize=3)
    axes.fill_between(steps, mean - half, np.minimum(mean + half, 1) if has_success else mean + half, alpha=0.2)
    axes.set_xlabel("environment steps")
    axes.set_ylabel("success rate" if has_success else "return")
    axes.set_title(f"{evaluations.parent.name}: {values.shape[1]} episodes an evaluation, 95 % interval")
    axes.grid(alpha=0.3)
    picture = evaluations.with_name("learning_curve.png")
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    return picture


def _program(name: str) -> str:
    """Return how to call a program of this environment from here: by name if it is on the path, else by its file."""
    beside = Path(sys.executable).parent / name
    on_path = any(Path(folder) == beside.parent for folder in os.environ.get("PATH", "").split(os.pathsep))
    if on_path or not beside.exists():
        return name
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
