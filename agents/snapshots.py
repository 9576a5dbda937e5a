"""Snapshots of a training that is under way, from which it goes on after the process was killed."""

from __future__ import annotations

import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cloudpickle
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback

from equirl.agents.training_state import restore_training, training_state
from equirl.files import DAMAGED, written_whole

__all__ = ["EvaluationsWhole", "Snapshots", "read_snapshot"]

_SHARE = 20
"""Writing a snapshot takes at most one part in so many of the time."""


class Snapshots(BaseCallback):
    """Writes the whole state of a training now and then, and goes on from such a state.

    The training that goes on has the same weights, curves and files as one that was never interrupted, wherever SB3
    itself gives the same twice. It is made in the same way first, and its state is put back as its first rollout
    begins. Environments that cannot be pickled begin new episodes; that is said.

    Args:
        file: File of the snapshot; the next one takes its place.
        every: Seconds between two snapshots; longer where writing one takes more than a twentieth of that.
        callbacks: The other callbacks, whose state is part of the training's.
        state: State to go on from, of ``read_snapshot``.
    """

    def __init__(
        self, file: Path, every: float, callbacks: Sequence[BaseCallback], state: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        self._file = file
        self._every = every
        self._others = callbacks
        self._to_restore = state
        self._due = 0.0
        self._complained = False

    def _on_rollout_start(self) -> None:
        # The one moment that all algorithms have, in which no step and no update is half done.
        if self._to_restore is not None:
            for lost in restore_training(self.model, self._others, self._to_restore):
                print(f"Not exactly as if it had never stopped: {lost}")
            self._to_restore = None
            for bar in (getattr(each, "pbar", None) for each in self._others):
                if bar is not None:
                    bar.update(self.model.num_timesteps)
            self._due = time.monotonic() + self._every
        elif time.monotonic() >= self._due:
            self._write()

    def _on_step(self) -> bool:
        return True

    def _write(self) -> None:
        started = time.monotonic()
        try:
            with written_whole(self._file) as whole, whole.open("wb") as file:
                cloudpickle.dump(training_state(self.model, self._others), file)
        except Exception as error:  # the disk is full, or what a callback or a buffer of the user's holds is no data
            if not self._complained:
                print(f"{self._file} cannot be written ({type(error).__name__}: {error}); training goes on without it")
            self._complained = True
        took = time.monotonic() - started
        self._due = started + took + max(self._every, _SHARE * took)


class EvaluationsWhole(BaseCallback):
    """Lets the table of an ``EvalCallback`` take its place only when it is whole; stands behind it in the list.

    Args:
        evaluation: The callback whose file is meant.
    """

    def __init__(self, evaluation: EvalCallback) -> None:
        super().__init__()
        self._target = Path(str(evaluation.log_path)).with_suffix(".npz")
        self._beside = self._target.with_name(f".{self._target.name}")
        evaluation.log_path = str(self._beside)

    def _on_step(self) -> bool:
        if self._beside.exists():
            self._beside.replace(self._target)
        return True

    def forget(self) -> None:
        """Remove a table that has not taken its place: training has failed while it, or what follows, was written."""
        self._beside.unlink(missing_ok=True)


def read_snapshot(file: Path) -> dict[str, Any]:
    """Return the state that ``Snapshots`` wrote. It is a pickle: read those of your own trainings only.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with file.open("rb") as opened:
            return dict(pickle.load(opened))
    except (*DAMAGED, AttributeError, ImportError) as error:
        raise ValueError(
            f"{file} cannot be read ({type(error).__name__}: {error}): it is damaged, or of another version"
        ) from error
