"""The SCAN study: models pretrained on a split, symmetrized zero-shot, then fine-tuned."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from equirl.experiments.checkpoints import curves
from equirl.experiments.scan.batches import COMMAND_VOCABULARY, Examples
from equirl.experiments.scan.config import ScanConfig, Variant, variants_of
from equirl.experiments.scan.models import make_model, make_symmetry
from equirl.experiments.scan.report import report_scan
from equirl.experiments.scan.splits import Example, Split, differences, file_names, make_split, read_split
from equirl.experiments.scan.training import Fit, FitConfig, accuracy, fit, hold_out, load_checkpoint, save_checkpoint
from equirl.experiments.study import Stage, Study
from equirl.experiments.tables import Rows
from equirl.models.g_lstm import GLSTM
from equirl.models.seq2seq import EncoderDecoder
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SymmetrizedSequenceModel, ViewByView

__all__ = ["COLUMNS", "SCAN", "fit_configs"]

COLUMNS = (
    *("split", "cell", "symmetry", "method", "variant", "seed", "held_out", "zero_shot", "fine_tuned"),
    *("pretrain_steps", "fine_tune_steps", "seconds"),
)

_FIT_COLUMNS = ("steps", "seconds")
_NEVER = 1000
_WEIGHT_DECAY = 0.3  # of fine-tuning: what it learns of one view carries over to the others; see experiments/README.md
_LAMBDA_FIT = FitConfig(steps=400, batch_size=128, learning_rate=1e-2, check_every=50, patience=8)


def fit_configs(config: ScanConfig, split: str) -> tuple[FitConfig, FitConfig]:
    """Return how to pretrain and how to fine-tune."""
    if config.paper:
        # Basu et al. (2023): batches of one, teacher forcing in half of the steps.
        rate = 5e-5 if split == "addprim_jump" else 2e-5
        pretraining = FitConfig(200_000, 1, 1e-4, 2000, 1000, teacher_forcing=0.5)
        fine_tuning = replace(pretraining, steps=10_000, learning_rate=rate, check_every=500)
    else:
        pretraining = FitConfig(6000, 64, 2e-3, 250, 8, anneal=True)
        # No end before the learning rate's: under weight decay the loss stands still while the rate is high.
        fine_tuning = replace(pretraining, steps=5000, weight_decay=_WEIGHT_DECAY, patience=_NEVER)
    return (
        replace(pretraining, steps=config.pretrain_steps or pretraining.steps),
        replace(fine_tuning, steps=config.fine_tune_steps or fine_tuning.steps),
    )


class _Data(NamedTuple):
    train: list[Example]
    held_out: Examples
    test: Examples


def _encoded(parts: Split, held_out: float, seed: int, device: str) -> _Data:
    train, rest = hold_out(parts.train, held_out, seed)
    return _Data(train, Examples(rest, device), Examples(parts.test, device))


@lru_cache(maxsize=1)  # a file can change from run to run, the grammar cannot
def _made_data(split: str, held_out: float, seed: int, device: str) -> _Data:
    return _encoded(make_split(split), held_out, seed, device)


class _Job(NamedTuple):
    """One run; its files are named after all settings that change its rows."""

    config: ScanConfig
    split: str
    cell: str
    seed: int
    variant: Variant

    @property
    def about(self) -> dict[str, Any]:
        return {"split": self.split, "cell": self.cell, "seed": self.seed}

    @property
    def title(self) -> str:
        parts = (self.split, self.cell, f"seed {self.seed}", self.variant.method, self.variant.name)
        return " ".join(filter(None, parts))

    def decisive(self) -> list[Any]:
        config, data = self.config, None
        if config.data is not None:  # the files may change
            contents = [(config.data / name).read_bytes() for name in file_names(self.split)]
            data = [hashlib.sha256(content).hexdigest() for content in contents]
        model = "g_lstm" if self.variant.method == "g_lstm" else self.cell
        pretraining = str(fit_configs(config, self.split)[0])
        return [self.split, model, self.seed, config.hidden, config.paper, data, pretraining]

    def pretrain_file(self) -> Path:
        return self.config.run_file(f"{self.split}-{self.cell}-seed{self.seed}", self.decisive())

    def fine_tune_file(self) -> Path:
        symmetry = self.variant.symmetry
        name = f"{self.split}-{self.cell}-{symmetry.replace(':', '_')}-views-seed{self.seed}"
        return self.config.run_file(name, [self.decisive(), symmetry, str(fit_configs(self.config, self.split)[1])])

    def file(self) -> Path:
        variant, decisive = self.variant, [self.decisive(), str(self.variant)]
        if variant.method == "lambda_equitune":
            decisive.append(str(_LAMBDA_FIT))
        if variant.loss:
            decisive.append(str(fit_configs(self.config, self.split)[1]))
        cell = "" if variant.method == "g_lstm" else self.cell
        parts = [self.split, cell, variant.symmetry, variant.method, variant.name.replace(",", ""), f"seed{self.seed}"]
        name = "-".join(part.replace(" ", "_").replace(":", "_") for part in parts if part not in ("", "-"))
        return self.config.run_file(name, decisive)

    def data(self) -> _Data:
        config, held_out = self.config, 0.2 if self.config.paper else 0.1
        if config.data is not None:
            return _encoded(read_split(config.data, self.split), held_out, self.seed, config.device)
        return _made_data(self.split, held_out, self.seed, config.device)

    def pretrained(self) -> tuple[EncoderDecoder, int]:
        """Return the pretrained model and the gradient steps that it took."""
        backbone = make_model(self.cell, self.config.hidden).to(self.config.device)
        return backbone, load_checkpoint(self.pretrain_file().with_suffix(".pt"), backbone)["steps"]

    def fit(self, path: Path, model: SequenceModel, data: _Data, settings: FitConfig, phase: str, **more: Any) -> Fit:
        """Fit a model, its state and curves beside the run's file."""
        train, title = Examples(data.train, self.config.device), self.title if path == self.file() else path.stem
        more = {"progress": f"{title}: {phase}", "resume": path.with_suffix(".part"), **more}
        with curves(path.parents[1] / "tensorboard" / path.stem) as note:

            def report(step: int, of_training: float, of_held_out: float) -> None:
                note(f"{phase}/loss", step, of_training)
                note(f"{phase}/held-out loss", step, of_held_out)

            return fit(model, train, data.held_out, settings, self.seed, report=report, **more)

    def symmetrized(self, backbone: EncoderDecoder, data: _Data, phase: str) -> tuple[SymmetrizedSequenceModel, float]:
        """Return the symmetrized model, with its λ fitted where it has one, and the seconds that took."""
        variant = self.variant
        torch.manual_seed(self.seed)
        aggregator = make_sequence_aggregator(variant.method, len(COMMAND_VOCABULARY), variant.proxy_loss or "entropy")
        model = SymmetrizedSequenceModel(backbone, make_symmetry(variant.symmetry), aggregator).to(self.config.device)
        if variant.method != "lambda_equitune":
            return model, 0.0
        n_few = max(1, round(variant.lambda_data * len(data.train)))
        few = data._replace(train=random.Random(self.seed).sample(data.train, n_few))
        weights = cast(nn.Module, model.aggregator).parameters()
        result = self.fit(self.file(), model, few, _LAMBDA_FIT, phase, parameters=weights, resume=None)
        return model, result.seconds

    def row(self, scores: tuple[Any, Any, Any], pretrained: int, fine_tuned: int, seconds: float) -> Rows:
        """Return a run's row, and print it; the scores are the held-out one, zero-shot and fine-tuned."""
        variant = self.variant
        cell = "g_lstm" if variant.method == "g_lstm" else self.cell
        rounded = [round(score, 5) if isinstance(score, float) else score for score in scores]
        shown = [value or "-" for value in (variant.symmetry, variant.method, variant.name)]
        results = f"zero-shot {scores[1]}, fine-tuned {scores[2]}"
        print(f"{self.split} {cell} seed {self.seed} {' '.join(shown)}: {results}", flush=True)
        return [(self.split, cell, *shown, self.seed, *rounded, pretrained, fine_tuned, round(seconds, 1))]


def _check(config: ScanConfig) -> None:
    """Read the data, and say how they differ from what the grammar gives."""
    for split in config.split:
        if config.data is not None:
            for line in differences(read_split(config.data, split), make_split(split)):
                print(f"{split} in {config.data}: {line}")


def _stages(config: ScanConfig) -> list[Stage[_Job]]:
    """Return three stages: pretraining, fine-tuning on views, and the rows of the table."""
    by_file: dict[Path, _Job] = {}
    for split in config.split:
        for seed in range(config.seeds):
            for cell in config.cell:
                for variant in variants_of(config, split):
                    job = _Job(config, split, cell, seed, variant)
                    by_file.setdefault(job.file(), job)
    jobs = list(by_file.values())
    pretraining = {job.pretrain_file(): job for job in jobs if job.variant.method != "g_lstm"}
    fine_tuning = {job.fine_tune_file(): job for job in jobs if job.variant.loss == "views"}
    of_fit: dict[str, Any] = {"columns": _FIT_COLUMNS, "table": None, "leaves": (".pt",)}
    return [
        Stage(list(pretraining.values()), _pretrain, _Job.pretrain_file, **of_fit),
        Stage(list(fine_tuning.values()), _fine_tune_views, _Job.fine_tune_file, **of_fit),
        Stage(jobs, _run, _Job.file, COLUMNS, order=lambda job: config.split.index(job.split)),
    ]


def _pretrain(job: _Job) -> Rows:
    torch.manual_seed(job.seed)
    path, model = job.pretrain_file(), make_model(job.cell, job.config.hidden).to(job.config.device)
    result = job.fit(path, model, job.data(), fit_configs(job.config, job.split)[0], "pretraining")
    save_checkpoint(path.with_suffix(".pt"), model, {**job.about, "steps": result.steps})
    return [(result.steps, round(result.seconds, 1))]


def _fine_tune_views(job: _Job) -> Rows:
    path, symmetry, settings = job.fine_tune_file(), job.variant.symmetry, fit_configs(job.config, job.split)[1]
    model = ViewByView(job.pretrained()[0], make_symmetry(symmetry)).to(job.config.device)
    result = job.fit(path, model, job.data(), settings, "fine-tuning", judged=_mean_of_views(model))
    about = {**job.about, "symmetry": symmetry, "steps": result.steps, "seconds": result.seconds}
    save_checkpoint(path.with_suffix(".pt"), model.model, about)
    return [(result.steps, round(result.seconds, 1))]


def _run(job: _Job) -> Rows:
    variant, data, path = job.variant, job.data(), job.file()
    pretraining, fine_tuning = fit_configs(job.config, job.split)
    if variant.method == "g_lstm":
        torch.manual_seed(job.seed)
        designed = GLSTM(make_symmetry(variant.symmetry), job.config.hidden).to(job.config.device)
        result = job.fit(path, designed, data, pretraining, "training")
        own_scores = (accuracy(designed, data.held_out), "", accuracy(designed, data.test))
        return job.row(own_scores, 0, result.steps, result.seconds)
    backbone, pretrain_steps = job.pretrained()
    if variant.method == "plain":
        return job.row((accuracy(backbone, data.held_out), accuracy(backbone, data.test), ""), pretrain_steps, 0, 0.0)
    model, seconds = job.symmetrized(backbone, data, "fitting λ")
    zero_shot, steps = accuracy(model, data.test), 0
    if variant.loss == "views":
        about = load_checkpoint(job.fine_tune_file().with_suffix(".pt"), backbone)
        model, seconds = job.symmetrized(backbone, data, "fitting λ after fine-tuning")
        steps, seconds = about["steps"], seconds + about["seconds"]
    elif variant.loss == "aggregate":
        judged = _mean_of_views(model) if variant.method == "equizero" else None
        result = job.fit(path, model, data, fine_tuning, "fine-tuning", judged=judged)
        steps, seconds = result.steps, seconds + result.seconds
    if variant.loss:
        save_checkpoint(path.with_suffix(".pt"), model, {**job.about, **vars(variant)})
    scores = (accuracy(model, data.held_out), zero_shot, accuracy(model, data.test) if variant.loss else "")
    return job.row(scores, pretrain_steps, steps, seconds)


def _mean_of_views(model: SymmetrizedSequenceModel) -> SymmetrizedSequenceModel:
    """Return the model for early stopping: the mean over views, as equizero's choice is good from the start."""
    return SymmetrizedSequenceModel(
        model.model, model.symmetry, make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
    )


SCAN = Study(_stages, lambda config: report_scan(config.out), _check)
"""``equirl scan``; it also leaves curves in ``tensorboard/``."""
