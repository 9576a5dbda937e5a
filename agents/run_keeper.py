"""What ``equirl train`` keeps so that a run that was killed can go on: how it was started, and its last snapshot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, ProgressBarCallback
from stable_baselines3.common.logger import configure

from equirl.agents.snapshots import EvaluationsWhole, Snapshots, read_snapshot
from equirl.files import written_whole

__all__ = ["RunKeeper", "kept_arguments", "unfinished_run"]

_STARTED = "started.json"
_SNAPSHOT = "snapshot.pkl"


@dataclass(frozen=True)
class RunKeeper:
    """Keeps what a run of ``equirl train`` goes on from.

    Attributes:
        arguments: The command line.
        every: Seconds between two snapshots; 0: none.
        folder: Folder of the run that goes on; ``None``: a new run.
    """

    arguments: Sequence[str]
    every: float
    folder: Path | None = None

    def begun(self, settings: Path, seed: int) -> None:
        """Note how the run was started.

        Args:
            settings: Folder of the run's settings.
            seed: Its seed, which rl_zoo3 may have drawn.
        """
        if self.folder is None and self.every:
            seeded = [*self.arguments, "--seed", str(seed)]
            with written_whole(settings / _STARTED) as whole:
                whole.write_text(json.dumps({"arguments": seeded, "snapshot_every": self.every}), encoding="utf-8")

    def with_snapshots(
        self, model: BaseAlgorithm, callbacks: Sequence[BaseCallback], settings: Path
    ) -> list[BaseCallback]:
        """Return callbacks that also write snapshots, and that go on from the last one if a run goes on.

        Args:
            model: The agent.
            callbacks: The run's callbacks.
            settings: Folder of the run's settings.

        Raises:
            ValueError: The snapshot cannot be read.
        """
        if not self.every:
            return list(callbacks)
        file = settings / _SNAPSHOT
        state = read_snapshot(file) if self.folder is not None and file.is_file() else None
        if state is not None and state["log folder"] is not None:
            shown = ["stdout"] if model.verbose >= 1 else []
            model.set_logger(configure(state["log folder"], [*shown, "tensorboard"]))
        whole: list[BaseCallback] = []
        for callback in callbacks:
            whole.append(callback)
            if isinstance(callback, EvalCallback) and callback.log_path is not None:
                whole.append(EvaluationsWhole(callback))
        # Behind the progress bar, which rl_zoo3 wants first; before all that may draw random numbers.
        first = 1 if whole and isinstance(whole[0], ProgressBarCallback) else 0
        return [*whole[:first], Snapshots(file, self.every, list(whole), state), *whole[first:]]

    def ended(self, settings: Path, completely: bool) -> None:
        """Forget all of it after the final agent is saved, or say how to go on if the user has stopped the run.

        Args:
            settings: Folder of the run's settings.
            completely: Whether it has come to its last step.
        """
        if not completely and (settings / _SNAPSHOT).is_file():
            print(f"Stopped before its last step. To go on: equirl train --resume {settings.parent}")
            return
        (settings / _SNAPSHOT).unlink(missing_ok=True)
        (settings / _STARTED).unlink(missing_ok=True)


def unfinished_run(folder: str | Path, logs: str | Path) -> Path:
    """Return the folder of a run that can go on.

    Args:
        folder: The run's folder; empty: the latest in ``logs`` that has not ended.
        logs: Folder of all runs.

    Raises:
        ValueError: There is none.
    """
    if folder:
        if not Path(folder).is_dir():
            raise ValueError(f"--resume {folder}: there is no such folder; name that of a run, such as logs/dqn/ID_1")
        if not list(Path(folder).glob(f"*/{_STARTED}")):
            raise ValueError(
                f"--resume {folder}: this run has ended, or keeps nothing to go on from; -i FILE.zip trains its agent "
                "further"
            )
        return Path(folder)
    found = sorted(Path(logs).glob(f"*/*/*/{_STARTED}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise ValueError(f"--resume: all runs in {logs} have ended; -f DIR looks elsewhere")
    return found[-1].parent.parent


def kept_arguments(run: Path) -> tuple[list[str], float]:
    """Return the command line of a run that can go on, and the seconds between its snapshots.

    Raises:
        ValueError: What the run has kept cannot be read.
    """
    file = next(run.glob(f"*/{_STARTED}"))
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return [str(word) for word in kept["arguments"]], float(kept["snapshot_every"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} cannot be read ({error}); was it changed?") from error
