"""One run of a study of images: a variant, a seed, and where what comes of it is kept."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from equirl.experiments.runs import run_file
from equirl.experiments.vision.config import FinetuneConfig, Variant, ZeroShotConfig
from equirl.experiments.vision.processes import n_processes
from equirl.experiments.vision.workbench import Workbench

__all__ = ["Job", "StudyConfig", "workbench"]

StudyConfig = ZeroShotConfig | FinetuneConfig


class Job(NamedTuple):
    """One run.

    Attributes:
        config: The study.
        variant: The method, and what of it is trained.
        seed: Of all that is trained.
        key: Of the workbench: the network and the images.
    """

    config: StudyConfig
    variant: Variant
    seed: int
    key: str

    @property
    def bench(self) -> Workbench:
        """The workbench, made once in each process."""
        return workbench(self.config, self.seed if self.config.model == "small-cnn" else 0)

    def file(self, kind: str) -> Path:
        """Return where one kind of its results is kept: all that changes them is in the name."""
        decisive: list[Any] = [self.key, vars(self.variant), self.config.any_angle]
        if self.variant.trained == "whole" and isinstance(self.config, FinetuneConfig):
            config = self.config
            decisive.append([config.whole_steps, config.learning_rate, config.batch_size, config.accumulate])
            decisive.append([config.mixed_precision, n_processes()])
        return run_file(self.config.out, f"{kind}-{self.variant.name}-{self.seed}", decisive)


@cache
def workbench(config: StudyConfig, seed: int) -> Workbench:
    """Return the workbench of a study and a seed, made once in each process."""
    return Workbench(config, seed)
