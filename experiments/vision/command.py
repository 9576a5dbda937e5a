"""``equirl vision``: image classifiers that do not care how an image is turned."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from equirl.experiments.outputs import check_output_file, check_output_folder
from equirl.experiments.records import write_record
from equirl.experiments.subcommands import Commands, run_subcommand, table_as_it_comes, write_csv
from equirl.experiments.vision.config import (
    DataConfig,
    FinetuneConfig,
    PlotConfig,
    SpeedConfig,
    StudyConfig,
    ZeroShotConfig,
)
from equirl.experiments.vision.image_sets import image_sets

__all__ = ["main"]

_HELP = """\
A classifier that has learned upright images loses accuracy when they are turned. Symmetrized over turns and mirrors it
gives every orientation the same answer, with little training (λ-equitune) or none (equitune, equizero).

commands:
  zero-shot      classify by the names of the classes: CLIP by name, or an embedded bridge of two encoders; resumable
  finetune       a pretrained CNN, or a small one trained here; λ alone, or then the whole network; resumable
  plot           tables and figures of a study again, of some methods
  speed          time and peak memory of each method beside the plain network
  data           the sets of images that are known

examples:
  equirl vision finetune                                   EfficientNet-Lite0 on handwritten digits
  equirl vision finetune --model small-cnn --whole-steps 300 --seeds 3
  equirl vision zero-shot --invert --group c4 d4 --csv accuracy.csv
  equirl vision zero-shot --invert --data fashion-mnist    clothes; on Debian: apt install dataset-fashion-mnist
  equirl vision zero-shot --model clip:openai/clip-vit-base-patch32 --data cifar100:cifar-100-python
  equirl vision finetune --data folder:photos --on-corrupt skip --method plain equizero --proxy-loss entropy confidence
  equirl vision plot --folder logs/vision/finetune --method plain lambda_equitune

equirl vision COMMAND --help lists the options of each.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl vision`` and return its exit status."""
    commands: Commands = {
        "zero-shot": (ZeroShotConfig, _study),
        "finetune": (FinetuneConfig, _study),
        "plot": (PlotConfig, _plot),
        "speed": (SpeedConfig, _speed),
        "data": (DataConfig, _data),
    }
    return run_subcommand("equirl vision", _HELP, commands, arguments)


def _study(config: StudyConfig) -> int:
    from equirl.experiments.vision.report import report_study
    from equirl.experiments.vision.study import run_study
    from equirl.experiments.vision.training import is_main_process

    if not is_main_process():
        with contextlib.redirect_stdout(io.StringIO()):
            run_study(config)
        return 0
    table = run_study(config)
    text, _, written = report_study(config.out)
    print(text)
    print(f"\nWritten to {config.out}: study.csv, {', '.join(written)}; tensorboard --logdir {config.out / 'tb'}")
    write_csv(table, config.csv)
    return 0


def _plot(config: PlotConfig) -> int:
    from equirl.experiments.vision.report import report_study

    check_output_file(config.csv, "--csv")
    if config.out is not None:
        check_output_folder(config.out)
    text, table, written = report_study(config.folder, config.method, config.out)
    print(text)
    print(f"\nWritten to {config.out or config.folder}: {', '.join(written)}")
    write_csv(table, config.csv)
    return 0


def _speed(config: SpeedConfig) -> int:
    from equirl.experiments.vision.measures import SPEED_COLUMNS, speed_rows

    check_output_file(config.csv, "--csv")
    write_csv(table_as_it_comes(SPEED_COLUMNS, speed_rows(config)), config.csv)
    if config.csv is not None:
        write_record(config.csv.with_suffix(".json"), config)
    return 0


def _data(config: DataConfig) -> int:
    print("\n".join(f"{name:22} {description}" for name, description in image_sets().items()))
    return 0
