"""``equirl vision``: image classifiers that do not care how an image is turned."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch

from equirl.agents.cli.option_checks import check_device, check_output_file
from equirl.agents.cli.subcommands import Commands, run_subcommand
from equirl.experiments.records import write_record
from equirl.experiments.study import run_study
from equirl.experiments.tables import table_as_it_comes, write_csv
from equirl.experiments.vision.config import DataConfig, FinetuneConfig, SpeedConfig, StudyConfig, ZeroShotConfig
from equirl.experiments.vision.image_sets import IMAGE_SETS
from equirl.models.image_backbones import load_backbone
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
    from equirl.experiments.cost.measurement import compare  # here, because it imports agents, which is slow
    from equirl.experiments.timing import Settings, peak_of_tensors

    check_device(config.device)
    torch.set_num_threads(config.threads)
    classifier = load_backbone(config.model, 10).to(config.device).eval()
    models: dict[tuple[str, str, str], Any] = {("plain", "-", "-"): classifier}
    for group, method, level in product(config.group, config.method, config.level):
        aggregator = make_image_aggregator(method, classifier.pooled_length())
        model = SymmetrizedClassifier(classifier, group, aggregator, level)
        models[method, group, level] = model.to(config.device).eval()
    settings = Settings(config.device, config.threads, config.rounds, min_seconds=0.0, quick=False)
    for batch in config.batch:
        images = torch.rand(batch, 3, classifier.size, classifier.size, device=config.device)
        cases = {" ".join(key): torch.no_grad()(partial(model, images)) for key, model in models.items()}
        peaks = [peak_of_tensors(case, images.device.type) for case in cases.values()]
        rows = compare(cases, settings, "", "", config.model, classifier.size, batch)
        for (key, model), row, peak in zip(models.items(), rows, peaks, strict=True):
            order = model.images.group.order if isinstance(model, SymmetrizedClassifier) else 1
            yield (
                *(config.model, *key, order, batch),
                *(round(value, 5) for value in (row.seconds, row.seconds_low, row.seconds_high)),
                *(round(row.ratio_to_plain, 3), round(peak, 2), round(peak / peaks[0], 3)),
            )


def _data(config: DataConfig) -> int:
    print("\n".join(f"{name:22} {description}" for name, description in IMAGE_SETS.items()))
    return 0
