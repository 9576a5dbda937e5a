"""``equirl vision``: image classifiers that do not care how an image is turned."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tyro

from equirl.agents.files import written_whole
from equirl.experiments.vision.config import FinetuneConfig, PlotConfig, SpeedConfig, ZeroShotConfig
from equirl.experiments.vision.image_sets import image_sets
from equirl.names import unknown_name_message

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
  equirl vision finetune                                   EfficientNet-Lite0 on 5,000 handwritten digits
  equirl vision finetune --model small-cnn --whole-steps 300 --seeds 3
  equirl vision zero-shot --invert --group c4 d4 --csv accuracy.csv
  equirl vision zero-shot --model clip:openai/clip-vit-base-patch32 --data cifar100:cifar-100-python
  equirl vision finetune --data folder:photos --on-corrupt skip --method plain equizero --proxy-loss entropy confidence
  equirl vision plot --folder logs/vision/finetune --method plain lambda_equitune

equirl vision COMMAND --help lists the options of each.
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl vision`` and return its exit status."""
    commands: dict[str, tuple[type[Any], Callable[[Any], int]]] = {
        "zero-shot": (ZeroShotConfig, _study),
        "finetune": (FinetuneConfig, _study),
        "plot": (PlotConfig, _plot),
        "speed": (SpeedConfig, _speed),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_HELP)
        return 0 if arguments else 2
    name = arguments[0]
    if name == "data":
        print("\n".join(f"{known:22} {what}" for known, what in image_sets().items()))
        return 0
    if name not in commands:
        print(f"equirl vision: {unknown_name_message('command', name, [*commands, 'data'])}", file=sys.stderr)
        return 2
    kind, run = commands[name]
    config = tyro.cli(kind, args=list(arguments[1:]), prog=f"equirl vision {name}")
    try:
        return run(config)
    except (ValueError, FileNotFoundError, ModuleNotFoundError) as error:
        print(f"equirl vision: {error}", file=sys.stderr)
        return 2


def _study(config: ZeroShotConfig | FinetuneConfig) -> int:
    from equirl.experiments.vision.processes import is_main_process
    from equirl.experiments.vision.report import report_study
    from equirl.experiments.vision.study import run_study

    if not is_main_process():
        with contextlib.redirect_stdout(io.StringIO()):
            run_study(config)
        return 0
    table = run_study(config)
    text, _, written = report_study(config.out)
    print(text)
    print(f"\nWritten to {config.out}: study.csv, {', '.join(written)}; tensorboard --logdir {config.out / 'tb'}")
    _write_csv(table, config.csv)
    return 0


def _plot(config: PlotConfig) -> int:
    from equirl.experiments.vision.report import report_study

    text, table, written = report_study(config.folder, config.method)
    print(text)
    print(f"\nWritten to {config.folder}: {', '.join(written)}")
    _write_csv(table, config.csv)
    return 0


def _speed(config: SpeedConfig) -> int:
    from equirl.experiments.vision.speed import SPEED_COLUMNS, speed_rows

    rows: list[Sequence[Any]] = []
    for row in speed_rows(config):
        rows.append(row)
        print(", ".join(f"{name} {value}" for name, value in zip(SPEED_COLUMNS, row, strict=True)), flush=True)
    _write_csv(pd.DataFrame(rows, columns=list(SPEED_COLUMNS)), config.csv)
    return 0


def _write_csv(table: pd.DataFrame, path: Path | None) -> None:
    if path is not None:
        with written_whole(path) as temporary:
            table.to_csv(temporary, index=False)
        print(f"Written to {path}")
