"""``equirl vision``: image classifiers that do not care how an image is turned."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from equirl.experiments.checks import check_device, check_output_file
from equirl.experiments.records import write_record
from equirl.experiments.study import run_study
from equirl.experiments.subcommands import Commands, run_subcommand, table_as_it_comes, write_csv
from equirl.experiments.timing import Settings, in_turns, peak_of_tensors
from equirl.experiments.vision.classifiers import load_backbone
from equirl.experiments.vision.config import DataConfig, FinetuneConfig, SpeedConfig, StudyConfig, ZeroShotConfig
from equirl.experiments.vision.image_sets import image_sets
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator

__all__ = ["main"]

_SPEED_COLUMNS = (
    *("model", "method", "group", "level", "order", "batch"),
    *("seconds", "seconds_low", "seconds_high", "ratio_to_plain", "peak_mb", "peak_ratio_to_plain"),
)

_HELP = """\
A classifier that has learned upright images loses accuracy when they are turned. Symmetrized over turns and mirrors it
gives every orientation the same answer, with little training (λ-equitune) or none (equitune, equizero).

examples:
  equirl vision finetune                                   EfficientNet-Lite0 on handwritten digits
  equirl vision finetune --model small-cnn --whole-steps 300 --seeds 3
  equirl vision zero-shot --invert --group c4 d4 --csv accuracy.csv
  equirl vision zero-shot --invert --data fashion-mnist    clothes; on Debian: apt install dataset-fashion-mnist
  equirl vision zero-shot --model clip:openai/clip-vit-base-patch32 --data cifar100:cifar-100-python
  equirl vision finetune --data folder:photos --on-corrupt skip --method plain equizero --proxy-loss entropy confidence
  equirl vision finetune --report-only --method plain lambda_equitune       tables and figures again, of some methods
  tensorboard --logdir logs/vision/finetune/tb
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl vision`` and return its exit status."""
    commands: Commands = {
        "zero-shot": (ZeroShotConfig, _study),
        "finetune": (FinetuneConfig, _study),
        "speed": (SpeedConfig, _speed),
        "data": (DataConfig, _data),
    }
    return run_subcommand("equirl vision", _HELP, commands, arguments)


def _study(config: StudyConfig) -> int:
    from equirl.experiments.vision.study import VISION, train_along
    from equirl.experiments.vision.training import is_main_process, n_processes

    if n_processes() > 1:  # processes that train together start no others
        config = replace(config, n_jobs=1)
    if is_main_process():
        return run_study(VISION, config)
    if not config.report_only:
        with contextlib.redirect_stdout(io.StringIO()):
            train_along(config)
    return 0


def _speed(config: SpeedConfig) -> int:
    check_output_file(config.csv, "--csv")
    write_csv(table_as_it_comes(_SPEED_COLUMNS, _speed_rows(config)), config.csv)
    if config.csv is not None:
        write_record(config.csv.with_suffix(".json"), config)
    return 0


def _speed_rows(config: SpeedConfig) -> Iterator[Sequence[Any]]:
    """Yield the time and peak memory of each variant on each batch of random images, without gradients.

    Raises:
        ValueError: An unknown model, or a device that cannot be used here.
    """
    check_device(config.device)
    torch.set_num_threads(config.threads)
    classifier = load_backbone(config.model, 10).to(config.device).eval()
    models: dict[tuple[str, str, str], Any] = {("plain", "-", "-"): classifier}
    for group in config.group:
        for method in config.method:
            for level in config.level:
                aggregator = make_image_aggregator(method, classifier.pooled_length())
                model: nn.Module = SymmetrizedClassifier(classifier, group, aggregator, level)
                models[method, group, level] = model.to(config.device).eval()
    settings = Settings(config.device, config.threads, config.rounds, min_seconds=0.0, quick=False)
    for batch in config.batch:
        images = torch.rand(batch, 3, classifier.size, classifier.size, device=config.device)
        cases = {" ".join(key): partial(_logits, model, images) for key, model in models.items()}
        times = {name: np.array(seconds) for name, seconds in in_turns(cases, settings).items()}
        peaks = {name: peak_of_tensors(case, images.device.type) for name, case in cases.items()}
        plain = next(iter(cases))
        for (key, model), name in zip(models.items(), cases, strict=True):
            low, middle, high = np.percentile(times[name], [25, 50, 75])
            order = model.images.group.order if isinstance(model, SymmetrizedClassifier) else 1
            yield (
                *(config.model, *key, order, batch),
                *(round(float(value), 5) for value in (middle, low, high)),
                round(float(np.median(times[name] / times[plain])), 3),
                *(round(peaks[name], 2), round(peaks[name] / peaks[plain], 3)),
            )


@torch.no_grad()
def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(images)
    return logits


def _data(config: DataConfig) -> int:
    print("\n".join(f"{name:22} {description}" for name, description in image_sets().items()))
    return 0
