"""``equirl scan``: the SCAN study, and its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equirl.agents.cli.option_checks import check_counts, check_output_folder
from equirl.agents.cli.subcommands import Commands, run_subcommand
from equirl.experiments.scan.config import ScanConfig
from equirl.experiments.scan.splits import SPLITS, SplitName, file_names, make_split, write_splits
from equirl.experiments.scan.study import SCAN
from equirl.experiments.study import run_study
from equirl.names import check_names

__all__ = ["main"]

_HELP = """\
SCAN: does a sequence-to-sequence model understand `jump twice` when it has seen `jump`, and `walk twice`? Pretrains it
on a split, symmetrizes it over verbs or directions, and fine-tunes it. Finished runs are kept: run it again to go on
after a stop.

examples:
  equirl scan                                                     add-jump, LSTM, all methods (6 minutes)
  equirl scan --split template_around_right --method plain equitune
  equirl scan --split addprim_jump --cell lstm --method equizero --seeds 3
  equirl scan --symmetry verbs-c4 --no-fine-tune                  another group, zero-shot only
  equirl scan --method equizero --proxy-loss entropy confidence likelihood
  equirl scan --method lambda_equitune --lambda-data 1 0.1 0.01 0.001
  equirl scan --loss views aggregate                              two ways to fine-tune
  equirl scan --cell gru rnn transformer --method plain equitune
  equirl scan --report-only                                       table and plot from the CSV as it is
  equirl scan data --out DIR                                      all splits as official text files
  tensorboard --logdir logs/scan/tensorboard
"""


@dataclass(frozen=True)
class DataConfig:
    """Writes the data of SCAN as official text files."""

    out: Path
    """Folder of the text files."""
    split: tuple[SplitName, ...] = SPLITS
    """Splits to write."""
    seed: int = 0
    """Seed of the order of training examples, and of the split `simple`."""

    def __post_init__(self) -> None:
        check_names("split", self.split, SPLITS, may_repeat=True)
        check_counts(self, "seed", least=0)


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl scan`` and return its exit status."""
    commands: Commands = {
        "study": (ScanConfig, lambda config: run_study(SCAN, config)),
        "data": (DataConfig, _write_data),
    }
    return run_subcommand("equirl scan", _HELP, commands, arguments, default="study")


def _write_data(config: DataConfig) -> int:
    check_output_folder(config.out)
    write_splits(config.out, config.split, config.seed)
    for name in config.split:
        split, (train, test) = make_split(name, config.seed), file_names(name)
        print(f"{config.out / train}: {len(split.train):,} commands; {test}: {len(split.test):,}")
    return 0
