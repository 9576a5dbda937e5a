"""Settings of the SCAN study, and the variants that they stand for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from equirl.agents.cli.option_checks import check_counts
from equirl.experiments.scan.models import CELLS, make_symmetry
from equirl.experiments.scan.splits import SPLITS, SplitName
from equirl.experiments.study import StudyOptions
from equirl.models.seq2seq import HEADS
from equirl.models.sequence_aggregators import SEQUENCE_PROXY_LOSSES
from equirl.names import ORBIT_METHODS, check_names

__all__ = ["LOSSES", "STUDY_METHODS", "ScanConfig", "Variant", "variants_of"]

CellName = Literal["lstm", "gru", "rnn", "transformer"]
MethodName = Literal["plain", "equitune", "equizero", "lambda_equitune", "g_lstm"]
ProxyLossName = Literal["entropy", "confidence", "likelihood"]
LossName = Literal["views", "aggregate"]

STUDY_METHODS: tuple[MethodName, ...] = get_args(MethodName)
LOSSES: tuple[LossName, ...] = get_args(LossName)

_SYMMETRY_OF = {"addprim_jump": "jump-run"}


@dataclass(frozen=True)
class ScanConfig(StudyOptions):
    """Settings of the study; every one is recorded beside the results."""

    out: Path = Path("logs/scan")
    """Folder of the results, the checkpoints and TensorBoard's curves."""
    seeds: int = 1
    """Seeds 0 .. seeds - 1."""
    split: tuple[SplitName, ...] = ("addprim_jump",)
    """Splits of the data."""
    cell: tuple[CellName, ...] = ("lstm",)
    """Kinds of network; lstm, gru and rnn are bidirectional, with attention."""
    method: tuple[MethodName, ...] = ("plain", "equitune", "equizero", "lambda_equitune")
    """Methods; g_lstm is a network equivariant by design, trained from scratch."""
    symmetry: tuple[str, ...] = ()
    """jump-run, directions, verbs-c4, verbs-s4, their products, or cyclic:WORD,WORD,...; by default jump-run for
    addprim_jump and directions for the others."""
    proxy_loss: tuple[ProxyLossName, ...] = ("entropy",)
    """Proxy losses of equizero."""
    loss: tuple[LossName, ...] = ()
    """Losses of fine-tuning: views (each view learns from its own likelihood; one training serves equitune, all losses
    and, with λ fitted afterwards, λ-equitune) or aggregate (the likelihood of what the method answers); by default
    views, and with --paper what was published: aggregate, but for equizero, whose straight-through gradient is that of
    views."""
    lambda_data: tuple[float, ...] = (1.0,)
    """Shares of the training data that λ is learned from; fine-tuned is only that of the whole."""
    fine_tune: bool = True
    """Whether to fine-tune after zero-shot."""
    paper: bool = False
    """The published protocol: one command at a time, by default 200,000 + 10,000 gradient steps (hours)."""
    pretrain_steps: int | None = None
    """Most gradient steps of the pretraining; by default 6,000 of 64 commands each."""
    fine_tune_steps: int | None = None
    """Most gradient steps of the fine-tuning; by default 5,000 of 64 commands each."""
    hidden: int = 64
    """Width of the models."""
    data: Path | None = None
    """Folder with the official text files; by default the data is generated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names("split", self.split, SPLITS, may_repeat=True)
        check_names("cell", self.cell, CELLS, may_repeat=True)
        check_names("method", self.method, STUDY_METHODS, may_repeat=True)
        check_names("proxy loss", self.proxy_loss, SEQUENCE_PROXY_LOSSES, may_repeat=True, plural="proxy losses")
        if self.loss:
            check_names("loss", self.loss, LOSSES, may_repeat=True, plural="losses")
        if self.symmetry:
            check_names("symmetry", self.symmetry, may_repeat=True, plural="symmetries")
        for name in self.symmetry:
            make_symmetry(name)
        if not self.lambda_data:
            raise ValueError("no share is named in lambda_data; give at least one")
        for share in self.lambda_data:
            if not 0 < share <= 1:
                raise ValueError(f"lambda-data are shares of the training data, above 0 and up to 1; got {share}")
        check_counts(self, "pretrain_steps", "fine_tune_steps", "hidden")
        if "transformer" in self.cell and self.hidden % HEADS:
            raise ValueError(f"hidden must be a multiple of {HEADS}, the transformer's heads; got {self.hidden}")


@dataclass(frozen=True)
class Variant:
    """One way to make use of a pretrained model."""

    method: str
    symmetry: str
    proxy_loss: str = ""
    lambda_data: float = 1.0
    loss: str = ""

    @property
    def name(self) -> str:
        """What sets it apart from others of its method, in a word or two."""
        share = f"{self.lambda_data:.4g} of the data" if self.method == "lambda_equitune" else ""
        parts = (self.proxy_loss, share, "aggregate" if self.loss == "aggregate" else "")
        return ", ".join(part for part in parts if part)


def variants_of(config: ScanConfig, split: str) -> list[Variant]:
    """Return all variants of a study on a split, the plain model first."""
    found: list[Variant] = []
    for symmetry in config.symmetry or (_SYMMETRY_OF.get(split, "directions"),):
        for method in config.method:
            if method not in ORBIT_METHODS:
                found.append(Variant(method, "-" if method == "plain" else symmetry))
                continue
            published = "views" if method == "equizero" else "aggregate"
            for loss in config.loss or (published if config.paper else "views",):
                variant = Variant(method, symmetry, loss=loss if config.fine_tune else "")
                if method == "equizero":
                    found += [replace(variant, proxy_loss=proxy_loss) for proxy_loss in config.proxy_loss]
                elif method == "lambda_equitune":
                    for share in config.lambda_data:  # with less than all data, only λ is learned
                        of_share = variant.loss if share == 1 else ""
                        found.append(replace(variant, lambda_data=share, loss=of_share))
                else:
                    found.append(variant)
    return list(dict.fromkeys(found))
