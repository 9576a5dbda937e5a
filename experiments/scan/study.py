"""The SCAN study: models pretrained on a split, symmetrized zero-shot, then fine-tuned; resumable run by run."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from equirl.aggregators import Gradient
from equirl.experiments.records import write_record
from equirl.experiments.runs import Rows, gather_runs, run_file, run_missing
from equirl.experiments.scan.batches import Examples
from equirl.experiments.scan.g_lstm import GLSTM
from equirl.experiments.scan.models import CELLS, EncoderDecoder, make_model
from equirl.experiments.scan.proxy_losses import SEQUENCE_PROXY_LOSSES
from equirl.experiments.scan.splits import SPLITS, Example, Split, differences, file_names, make_split, read_split
from equirl.experiments.scan.symmetries import make_symmetry
from equirl.experiments.scan.symmetrized import METHODS, SymmetrizedSequenceModel, make_sequence_aggregator
from equirl.experiments.scan.training import FitConfig, accuracy, fit, hold_out, load_checkpoint, save_checkpoint
from equirl.names import unknown_name_message

__all__ = ["COLUMNS", "STUDY_METHODS", "ScanConfig", "Variant", "run_scan", "variants_of"]

COLUMNS = (
    *("split", "cell", "symmetry", "method", "variant", "seed", "held_out", "zero_shot", "fine_tuned"),
    *("pretrain_steps", "fine_tune_steps", "seconds"),
)

STUDY_METHODS = ("plain", *METHODS, "g_lstm")

_SYMMETRY_OF = {"addprim_jump": "jump-run"}
_FAITHFUL_BATCH = 1
_LAMBDA_FIT = FitConfig(steps=400, batch_size=128, learning_rate=1e-2, check_every=50, patience=8)


@dataclass(frozen=True)
class ScanConfig:
    """Settings of the study; every one is recorded beside the results."""

    split: tuple[str, ...] = ("addprim_jump",)
    """simple, addprim_jump, addprim_turn_left, template_around_right or length."""
    cell: tuple[str, ...] = ("lstm",)
    """lstm, gru, rnn (bidirectional, with attention) or transformer."""
    method: tuple[str, ...] = ("plain", "equitune", "equizero", "lambda_equitune")
    """plain, equitune, equizero, lambda_equitune, or g_lstm: a network equivariant by design, trained from scratch."""
    symmetry: tuple[str, ...] = ()
    """jump-run, directions, verbs-c4, verbs-s4, their products, or cyclic:WORD,WORD,...; by default jump-run for
    addprim_jump and directions for the others."""
    proxy_loss: tuple[str, ...] = ("entropy",)
    """Of equizero: entropy, confidence, likelihood."""
    gradient: str = "straight_through"
    """Of equizero in fine-tuning: straight_through (as published: every view learns) or pick (the chosen view does)."""
    lambda_data: tuple[float, ...] = (1.0,)
    """Shares of the training data that λ is learned from; it is fine-tuned after the whole."""
    seeds: int = 1
    """Seeds 0 .. seeds - 1."""
    fine_tune: bool = True
    """Whether to fine-tune after zero-shot."""
    paper: bool = False
    """The published protocol: one command at a time, 200,000 + 10,000 gradient steps (hours)."""
    pretrain_steps: int = 6000
    """Most gradient steps of the pretraining, 64 commands each."""
    fine_tune_steps: int = 5000
    """Most gradient steps of the fine-tuning."""
    hidden: int = 64
    """Width of the models."""
    data: Path | None = None
    """Folder with the official text files; by default the data is generated."""
    n_jobs: int = 2
    """Runs at a time, one torch thread each."""
    cluster: str | None = None
    """Address of a Dask scheduler (tcp://...) or a Ray cluster (ray://...) that does the runs instead; out has to be an
    absolute path that all workers see, for the checkpoints."""
    device: str = "cpu"
    """Torch device."""
    out: Path = Path("logs/scan")
    """Folder of the results, the checkpoints and TensorBoard's curves."""
    report_only: bool = False
    """Only write the table and the plot again, from the CSV."""


@dataclass(frozen=True)
class Variant:
    """One way to make use of a pretrained model."""

    method: str
    symmetry: str
    proxy_loss: str = ""
    lambda_data: float = 1.0

    @property
    def name(self) -> str:
        """What sets it apart from others of its method, in a word."""
        if self.method == "equizero":
            return self.proxy_loss
        return f"{self.lambda_data:.4g} of the data" if self.method == "lambda_equitune" else ""


_Job = tuple[ScanConfig, str, str, int, Variant]


def variants_of(config: ScanConfig, split: str) -> list[Variant]:
    """Return all variants of a study on a split, the plain model first."""
    found: list[Variant] = []
    for symmetry in config.symmetry or (_SYMMETRY_OF.get(split, "directions"),):
        for method in config.method:
            variant = Variant(method, "-" if method == "plain" else symmetry)
            if method == "equizero":
                found += [replace(variant, proxy_loss=proxy_loss) for proxy_loss in config.proxy_loss]
            elif method == "lambda_equitune":
                found += [replace(variant, lambda_data=share) for share in config.lambda_data]
            else:
                found.append(variant)
    return list(dict.fromkeys(found))


def check_config(config: ScanConfig) -> None:
    """Raise unless everything in a configuration is known.

    Raises:
        ValueError: An unknown name, or a number out of range; the message lists what there is.
    """
    for kind, given, known in (
        ("split", config.split, SPLITS),
        ("cell", config.cell, [cell for cell in CELLS if cell != "g_lstm"]),
        ("method", config.method, STUDY_METHODS),
        ("proxy loss", config.proxy_loss, list(SEQUENCE_PROXY_LOSSES)),
        ("gradient", (config.gradient,), get_args(Gradient)),
    ):
        for name in given:
            if name not in known:
                raise ValueError(unknown_name_message(kind, name, known))
    for name in config.symmetry:
        make_symmetry(name)
    for share in config.lambda_data:
        if not 0 < share <= 1:
            raise ValueError(f"lambda-data are shares of the training data, above 0 and up to 1; got {share}")
    if config.seeds < 1 or config.n_jobs < 1:
        raise ValueError(f"seeds and n-jobs must be at least 1; got {config.seeds} and {config.n_jobs}")


def run_scan(config: ScanConfig, say: Callable[[str], None] = print) -> None:
    """Run what is not done yet and write ``study.csv`` and ``record.json`` into ``config.out``.

    Args:
        config: What to run.
        say: Where differences of read data go.

    Raises:
        ValueError: Something unknown in the configuration, or a data file that cannot be used.
        FileNotFoundError: A data file is not there.
    """
    check_config(config)
    for split in config.split:
        if config.data is not None:
            for line in differences(read_split(config.data, split), make_split(split)):
                say(f"{split} in {config.data}: {line}")
    by_file: dict[Path, _Job] = {}
    for split in config.split:
        for seed in range(config.seeds):
            for cell in config.cell:
                for variant in variants_of(config, split):
                    job = (config, split, cell, seed, variant)
                    by_file.setdefault(_file_of(job), job)
    jobs = list(by_file.values())
    needed = {_pretrain_file(job): job for job in jobs if job[4].method != "g_lstm"}
    for path, job in needed.items():
        if not _checkpoint(job).exists():
            path.unlink(missing_ok=True)  # what came of it is gone: it is to be done again
    columns = ("steps", "seconds")
    run_missing(list(needed.values()), _pretrain, _pretrain_file, columns, config.n_jobs, config.cluster)
    run_missing(jobs, _run, _file_of, COLUMNS, config.n_jobs, config.cluster)
    for path in (*needed, *by_file):
        path.with_suffix(".part").unlink(missing_ok=True)
    in_order = sorted(jobs, key=lambda job: config.split.index(job[1]))
    gather_runs([_file_of(job) for job in in_order], COLUMNS, config.out / "study.csv")
    write_record(config.out / "record.json", config)


def fit_configs(config: ScanConfig, split: str) -> tuple[FitConfig, FitConfig]:
    """Return how to pretrain and how to fine-tune."""
    if config.paper:
        # Basu et al. (2023): batches of one, teacher forcing in half of the steps.
        rate = 5e-5 if split == "addprim_jump" else 2e-5
        published = FitConfig(200_000, _FAITHFUL_BATCH, 1e-4, 2000, 1000, teacher_forcing=0.5)
        return published, replace(published, steps=10_000, learning_rate=rate, check_every=500)
    pretraining = FitConfig(config.pretrain_steps, 64, 2e-3, 250, 8, anneal=True)
    return pretraining, replace(pretraining, steps=config.fine_tune_steps)


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
    return run_file(config.out, f"{split}-{cell}-seed{seed}", _decisive(job))


def _checkpoint(job: _Job) -> Path:
    return _pretrain_file(job).with_suffix(".pt")


def _file_of(job: _Job) -> Path:
    config, split, cell, seed, variant = job
    decisive = [_decisive(job), str(variant)]
    if variant.method == "lambda_equitune":
        decisive.append(str(_LAMBDA_FIT))
    if variant.method in METHODS and config.fine_tune and variant.lambda_data == 1:
        decisive.append([str(fit_configs(config, split)[1]), config.gradient if variant.method == "equizero" else None])
    cell = "" if variant.method == "g_lstm" else cell
    parts = [split, cell, variant.symmetry, variant.method, variant.name, f"seed{seed}"]
    name = "-".join(part.replace(" ", "_").replace(":", "_") for part in parts if part not in ("", "-"))
    return run_file(config.out, name, decisive)


def _data(config: ScanConfig, split: str, seed: int) -> tuple[list[Example], Examples, Examples]:
    """Return training examples, those held out, and the test's."""
    parts: Split = make_split(split) if config.data is None else read_split(config.data, split)
    train, held_out = hold_out(parts.train, 0.2 if config.paper else 0.1, seed)
    return train, Examples(held_out, config.device), Examples(parts.test, config.device)


def _pretrain(job: _Job) -> Rows:
    config, split, cell, seed, _ = job
    torch.set_num_threads(1)
    train, held_out, _test = _data(config, split, seed)
    torch.manual_seed(seed)
    model = make_model(cell, config.hidden).to(config.device)
    path = _checkpoint(job)
    with _Curves(path) as curves:
        result = fit(
            model,
            Examples(train, config.device),
            held_out,
            fit_configs(config, split)[0],
            seed,
            report=curves("pretraining"),
            progress=f"{split} {cell} seed {seed}: pretraining",
            resume=path.with_suffix(".part"),
        )
    save_checkpoint(path, model, {"split": split, "cell": cell, "seed": seed, "steps": result.steps})
    return [(result.steps, round(result.seconds, 1))]


def _run(job: _Job) -> Rows:
    config, split, cell, seed, variant = job
    torch.set_num_threads(1)
    train, held_out, test = _data(config, split, seed)
    pretraining, fine_tuning = fit_configs(config, split)
    path = _file_of(job)
    title = f"{split} {cell} seed {seed}: {variant.method} {variant.name}".rstrip()
    all_of_it = Examples(train, config.device)
    scores: tuple[Any, Any, Any]
    with _Curves(path) as curves:
        if variant.method == "g_lstm":
            torch.manual_seed(seed)
            designed = GLSTM(make_symmetry(variant.symmetry), config.hidden).to(config.device)
            part = path.with_suffix(".part")
            result = fit(designed, all_of_it, held_out, pretraining, seed, None, curves("training"), title, part)
            scores = (accuracy(designed, held_out), "", accuracy(designed, test))
            return [_row(job, scores, 0, result.steps, result.seconds)]
        backbone = make_model(cell, config.hidden).to(config.device)
        pretrain_steps = load_checkpoint(_checkpoint(job), backbone)["steps"]
        if variant.method == "plain":
            scores = (accuracy(backbone, held_out), accuracy(backbone, test), "")
            return [_row(job, scores, pretrain_steps, 0, 0.0)]
        model = _symmetrized(config, backbone, variant)
        seconds = 0.0
        if variant.method == "lambda_equitune":
            few = Examples(_share(train, variant.lambda_data, seed), config.device)
            weights = list(cast(nn.Module, model.aggregator).parameters())
            seconds = fit(model, few, held_out, _LAMBDA_FIT, seed, weights, curves("fitting λ"), f"{title}, λ").seconds
        zero_shot = accuracy(model, test)
        if not config.fine_tune or variant.lambda_data < 1:
            return [_row(job, (accuracy(model, held_out), zero_shot, ""), pretrain_steps, 0, seconds)]
        result = fit(
            model,
            all_of_it,
            held_out,
            fine_tuning,
            seed,
            report=curves("fine-tuning"),
            progress=f"{title}, fine-tuning",
            resume=path.with_suffix(".part"),
            judged=_all_views(model) if variant.method == "equizero" else None,
        )
        save_checkpoint(path.with_suffix(".pt"), model, {"split": split, "cell": cell, "seed": seed, **vars(variant)})
        scores = (accuracy(model, held_out), zero_shot, accuracy(model, test))
        return [_row(job, scores, pretrain_steps, result.steps, seconds + result.seconds)]


def _symmetrized(config: ScanConfig, backbone: EncoderDecoder, variant: Variant) -> SymmetrizedSequenceModel:
    gradient = cast(Gradient, config.gradient)
    aggregator = make_sequence_aggregator(variant.method, variant.proxy_loss or "entropy", gradient)
    return SymmetrizedSequenceModel(backbone, make_symmetry(variant.symmetry), aggregator).to(config.device)


def _all_views(model: SymmetrizedSequenceModel) -> SymmetrizedSequenceModel:
    """Return the mean of all views: what equizero picks is good from the start, and tells nothing of the others."""
    return SymmetrizedSequenceModel(model.model, model.symmetry, make_sequence_aggregator("equitune"))


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
