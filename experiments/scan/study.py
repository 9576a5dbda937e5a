"""The SCAN study: models pretrained on a split, symmetrized zero-shot, then fine-tuned."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from equirl.experiments.scan.batches import Examples
from equirl.experiments.scan.config import ScanConfig, Variant, variants_of
from equirl.experiments.scan.models import make_model
from equirl.experiments.scan.report import report_scan
from equirl.experiments.scan.splits import Example, Split, differences, file_names, make_split, read_split
from equirl.experiments.scan.symmetries import make_symmetry
from equirl.experiments.scan.training import Fit, FitConfig, accuracy, fit, hold_out, load_checkpoint, save_checkpoint
from equirl.experiments.scan.vocabulary import COMMAND_VOCABULARY
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
_FAITHFUL_BATCH = 1
_NEVER = 1000
_WEIGHT_DECAY = 0.3  # of fine-tuning: what it learns of one view carries over to the others; see experiments/README.md
_LAMBDA_FIT = FitConfig(steps=400, batch_size=128, learning_rate=1e-2, check_every=50, patience=8)

_Job = tuple[ScanConfig, str, str, int, Variant]


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
                    job = (config, split, cell, seed, variant)
                    by_file.setdefault(_file_of(job), job)
    jobs = list(by_file.values())
    pretraining = {_pretrain_file(job): job for job in jobs if job[4].method != "g_lstm"}
    fine_tuning = {_fine_tune_file(job): job for job in jobs if job[4].loss == "views"}
    return [
        Stage(list(pretraining.values()), _pretrain, _pretrain_file, _FIT_COLUMNS, table=None, leaves=(".pt",)),
        Stage(list(fine_tuning.values()), _fine_tune_views, _fine_tune_file, _FIT_COLUMNS, table=None, leaves=(".pt",)),
        Stage(jobs, _run, _file_of, COLUMNS, order=lambda job: config.split.index(job[1])),
    ]


def fit_configs(config: ScanConfig, split: str) -> tuple[FitConfig, FitConfig]:
    """Return how to pretrain and how to fine-tune."""
    if config.paper:
        # Basu et al. (2023): batches of one, teacher forcing in half of the steps.
        rate = 5e-5 if split == "addprim_jump" else 2e-5
        pretraining = FitConfig(200_000, _FAITHFUL_BATCH, 1e-4, 2000, 1000, teacher_forcing=0.5)
        fine_tuning = replace(pretraining, steps=10_000, learning_rate=rate, check_every=500)
    else:
        pretraining = FitConfig(6000, 64, 2e-3, 250, 8, anneal=True)
        # No end before the learning rate's: under weight decay the loss stands still while the rate is high.
        fine_tuning = replace(pretraining, steps=5000, weight_decay=_WEIGHT_DECAY, patience=_NEVER)
    return (
        replace(pretraining, steps=config.pretrain_steps or pretraining.steps),
        replace(fine_tuning, steps=config.fine_tune_steps or fine_tuning.steps),
    )


def _decisive(job: _Job) -> list[Any]:
    config, split, cell, seed, variant = job
    data = None
    if config.data is not None:  # the files may change
        contents = [(config.data / name).read_bytes() for name in file_names(split)]
        data = [hashlib.sha256(content).hexdigest() for content in contents]
    model = variant.method if variant.method == "g_lstm" else cell
    return [split, model, seed, config.hidden, config.paper, data, str(fit_configs(config, split)[0])]


def _pretrain_file(job: _Job) -> Path:
    config, split, cell, seed, _ = job
    return config.run_file(f"{split}-{cell}-seed{seed}", _decisive(job))


def _fine_tune_file(job: _Job) -> Path:
    config, split, cell, seed, variant = job
    symmetry = variant.symmetry.replace(":", "_")
    decisive = [_decisive(job), variant.symmetry, str(fit_configs(config, split)[1])]
    return config.run_file(f"{split}-{cell}-{symmetry}-views-seed{seed}", decisive)


def _file_of(job: _Job) -> Path:
    config, split, cell, seed, variant = job
    decisive = [_decisive(job), str(variant)]
    if variant.method == "lambda_equitune":
        decisive.append(str(_LAMBDA_FIT))
    if variant.loss:
        decisive.append(str(fit_configs(config, split)[1]))
    cell = "" if variant.method == "g_lstm" else cell
    parts = [split, cell, variant.symmetry, variant.method, variant.name.replace(",", ""), f"seed{seed}"]
    name = "-".join(part.replace(" ", "_").replace(":", "_") for part in parts if part not in ("", "-"))
    return config.run_file(name, decisive)


def _data(config: ScanConfig, split: str, seed: int) -> tuple[list[Example], Examples, Examples]:
    """Return training examples, those held out, and the test's."""
    parts: Split = make_split(split) if config.data is None else read_split(config.data, split)
    train, held_out = hold_out(parts.train, 0.2 if config.paper else 0.1, seed)
    return train, Examples(held_out, config.device), Examples(parts.test, config.device)


def _pretrain(job: _Job) -> Rows:
    config, split, cell, seed, _ = job
    torch.manual_seed(seed)
    model = make_model(cell, config.hidden).to(config.device)
    result = _fit(job, _pretrain_file(job), model, fit_configs(config, split)[0], "pretraining")
    save_checkpoint(_pretrain_file(job).with_suffix(".pt"), model, {**_about(job), "steps": result.steps})
    return [(result.steps, round(result.seconds, 1))]


def _fine_tune_views(job: _Job) -> Rows:
    config, split, _cell, _seed, variant = job
    model = ViewByView(_pretrained(job)[0], make_symmetry(variant.symmetry)).to(config.device)
    settings = fit_configs(config, split)[1]
    result = _fit(job, _fine_tune_file(job), model, settings, "fine-tuning", _mean_of_views(model))
    about = {**_about(job), "symmetry": variant.symmetry, "steps": result.steps, "seconds": result.seconds}
    save_checkpoint(_fine_tune_file(job).with_suffix(".pt"), model.model, about)
    return [(result.steps, round(result.seconds, 1))]


def _fit(
    job: _Job, path: Path, model: SequenceModel, settings: FitConfig, phase: str, judged: SequenceModel | None = None
) -> Fit:
    """Fit a model on all training examples of a job, its state and curves beside the run's file."""
    config, split, _cell, seed, _variant = job
    train, held_out, _test = _data(config, split, seed)
    with _Curves(path) as curves:
        return fit(
            model,
            Examples(train, config.device),
            held_out,
            settings,
            seed,
            report=curves(phase),
            progress=f"{_title(job) if path == _file_of(job) else path.stem}: {phase}",
            resume=path.with_suffix(".part"),
            judged=judged,
        )


def _run(job: _Job) -> Rows:
    config, split, _cell, seed, variant = job
    train, held_out, test = _data(config, split, seed)
    path = _file_of(job)
    if variant.method == "g_lstm":
        return _run_designed(job, held_out, test)
    backbone, pretrain_steps = _pretrained(job)
    if variant.method == "plain":
        return [_row(job, (accuracy(backbone, held_out), accuracy(backbone, test), ""), pretrain_steps, 0, 0.0)]
    model, seconds = _symmetrized(job, backbone, train, held_out, "fitting λ")
    zero_shot, steps = accuracy(model, test), 0
    if variant.loss == "views":
        about = load_checkpoint(_fine_tune_file(job).with_suffix(".pt"), backbone)
        model, seconds = _symmetrized(job, backbone, train, held_out, "fitting λ after fine-tuning")
        steps, seconds = about["steps"], seconds + about["seconds"]
    elif variant.loss == "aggregate":
        judged = _mean_of_views(model) if variant.method == "equizero" else None
        result = _fit(job, path, model, fit_configs(config, split)[1], "fine-tuning", judged)
        steps, seconds = result.steps, seconds + result.seconds
    if variant.loss:
        save_checkpoint(path.with_suffix(".pt"), model, {**_about(job), **vars(variant)})
    scores = (accuracy(model, held_out), zero_shot, accuracy(model, test) if variant.loss else "")
    return [_row(job, scores, pretrain_steps, steps, seconds)]


def _run_designed(job: _Job, held_out: Examples, test: Examples) -> Rows:
    config, split, _cell, seed, variant = job
    torch.manual_seed(seed)
    model = GLSTM(make_symmetry(variant.symmetry), config.hidden).to(config.device)
    result = _fit(job, _file_of(job), model, fit_configs(config, split)[0], "training")
    return [_row(job, (accuracy(model, held_out), "", accuracy(model, test)), 0, result.steps, result.seconds)]


def _pretrained(job: _Job) -> tuple[EncoderDecoder, int]:
    """Return the pretrained model and the gradient steps that it took."""
    config, cell = job[0], job[2]
    backbone = make_model(cell, config.hidden).to(config.device)
    return backbone, load_checkpoint(_pretrain_file(job).with_suffix(".pt"), backbone)["steps"]


def _symmetrized(
    job: _Job,
    backbone: EncoderDecoder,
    train: list[Example],
    held_out: Examples,
    phase: str,
) -> tuple[SymmetrizedSequenceModel, float]:
    """Return the symmetrized model, with its λ fitted where it has one, and the seconds that took."""
    config, _, _, seed, variant = job
    torch.manual_seed(seed)
    aggregator = make_sequence_aggregator(variant.method, len(COMMAND_VOCABULARY), variant.proxy_loss or "entropy")
    model = SymmetrizedSequenceModel(backbone, make_symmetry(variant.symmetry), aggregator).to(config.device)
    if variant.method != "lambda_equitune":
        return model, 0.0
    few = Examples(_share(train, variant.lambda_data, seed), config.device)
    weights = list(cast(nn.Module, model.aggregator).parameters())
    title = f"{_title(job)}: {phase}"
    with _Curves(_file_of(job)) as curves:
        return model, fit(model, few, held_out, _LAMBDA_FIT, seed, weights, curves(phase), title).seconds


def _mean_of_views(model: SymmetrizedSequenceModel) -> SymmetrizedSequenceModel:
    """Return what tells how all views do; what equizero picks is good from the start."""
    return SymmetrizedSequenceModel(
        model.model, model.symmetry, make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
    )


def _title(job: _Job) -> str:
    _, split, cell, seed, variant = job
    return " ".join(part for part in (split, cell, f"seed {seed}", variant.method, variant.name) if part)


def _about(job: _Job) -> dict[str, Any]:
    return {"split": job[1], "cell": job[2], "seed": job[3]}


def _share(examples: list[Example], share: float, seed: int) -> list[Example]:
    return random.Random(seed).sample(examples, max(1, round(share * len(examples))))


def _row(job: _Job, scores: tuple[Any, Any, Any], pretrained: int, fine_tuned: int, seconds: float) -> tuple[Any, ...]:
    _, split, cell, seed, variant = job
    cell = "g_lstm" if variant.method == "g_lstm" else cell
    rounded = [round(score, 5) if isinstance(score, float) else score for score in scores]
    shown = [f"{value}" or "-" for value in (variant.symmetry, variant.method, variant.name)]
    print(f"{split} {cell} seed {seed} {' '.join(shown)}: zero-shot {scores[1]}, fine-tuned {scores[2]}", flush=True)
    return (split, cell, *shown, seed, *rounded, pretrained, fine_tuned, round(seconds, 1))


class _Curves:
    """TensorBoard's curves of one run, in a folder named after its file."""

    def __init__(self, path: Path) -> None:
        self._writer = SummaryWriter(os.fspath(path.parents[1] / "tensorboard" / path.stem))

    def __enter__(self) -> _Curves:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def __call__(self, phase: str) -> Callable[[int, float, float], None]:
        """Return what ``fit`` is to report to."""

        def report(step: int, train: float, held_out: float) -> None:
            self._writer.add_scalar(f"{phase}/loss", train, step)
            self._writer.add_scalar(f"{phase}/held-out loss", held_out, step)

        return report


SCAN = Study(_stages, lambda config: report_scan(config.out), _check)
"""``equirl scan``; it also leaves curves in ``tensorboard/``."""
