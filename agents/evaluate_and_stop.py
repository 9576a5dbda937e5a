"""Training of Stable-Baselines3 agents that is evaluated as it goes, and ends once the agent has learned."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

__all__ = ["EvaluateAndStop", "Evaluation"]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        timesteps: Environment steps so far.
        episodes: Episodes that training has finished so far.
        scores: What was measured.
        seconds: Seconds of training so far, without those of evaluations.
        cpu_seconds: The same in seconds of CPU time of this process, all its threads together.
    """

    timesteps: int
    episodes: int
    scores: tuple[float, ...]
    seconds: float
    cpu_seconds: float


class EvaluateAndStop(BaseCallback):
    """Evaluates an agent every ``eval_freq`` steps, off the clock, and ends its training once it has learned.

    Args:
        measure: Returns the scores of an agent; the first one decides.
        eval_freq: Environment steps between two evaluations.
        threshold: Score that counts as learned.
        stop_after: Training ends after so many evaluations in a row at the threshold or above.
        most_cpu_seconds: Training also ends at the first evaluation after so many seconds of CPU time.

    Attributes:
        evaluations: The evaluations so far.
    """

    def __init__(
        self,
        measure: Callable[[Any], tuple[float, ...]],
        eval_freq: int,
        threshold: float,
        stop_after: int,
        most_cpu_seconds: float = math.inf,
    ) -> None:
        super().__init__()
        self._measure = measure
        self._eval_freq = eval_freq
        self._threshold = threshold
        self._stop_after = stop_after
        self._due = eval_freq
        self._in_a_row = 0
        self._episodes = 0
        self._most_cpu_seconds = most_cpu_seconds
        self._paused = np.zeros(2)  # of the clock, and of CPU time
        self._started = np.zeros(2)
        self.evaluations: list[Evaluation] = []

    def _on_training_start(self) -> None:
        self._started = _now()

    def _on_step(self) -> bool:
        self._episodes += int(self.locals["dones"].sum())
        if self.num_timesteps < self._due:
            return True
        self._due += self._eval_freq
        pause = _now()
        scores = self._measure(self.model)
        seconds, cpu_seconds = (pause - self._started - self._paused).round(2).tolist()
        self.evaluations.append(Evaluation(self.num_timesteps, self._episodes, scores, seconds, cpu_seconds))
        self._in_a_row = self._in_a_row + 1 if scores[0] >= self._threshold else 0
        self._paused += _now() - pause
        return self._in_a_row < self._stop_after and cpu_seconds < self._most_cpu_seconds


def _now() -> Any:
    return np.array([time.perf_counter(), time.process_time()])
