"""``equirl vision zero-shot`` and ``finetune``: every variant on every angle; resumable run by run."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from equirl.agents.files import written_whole
from equirl.experiments.records import write_record
from equirl.experiments.runs import Rows, gather_runs, run_file, run_missing
from equirl.experiments.vision.config import (
    FinetuneConfig,
    Variant,
    ZeroShotConfig,
    check_config,
    proxy_loss_of,
    variants_of,
)
from equirl.experiments.vision.orbit_features import PIECE, Source, compute_missing, read_images
from equirl.experiments.vision.processes import in_several_processes, main_process_first
from equirl.experiments.vision.rotations import InterpolatedRotations, make_view, rotate, view_names
from equirl.experiments.vision.symmetrized import SymmetrizedClassifier, make_image_aggregator
from equirl.experiments.vision.training import fit_lambda, take_views, train_images
from equirl.experiments.vision.workbench import Workbench, say_in

__all__ = ["COLUMNS", "RELIABILITY_COLUMNS", "WEIGHT_COLUMNS", "run_study"]

_ABOUT = ("method", "group", "level", "kind", "reads", "trained", "labels", "seed")
COLUMNS = (
    *("method", "group", "angle", "accuracy", "n", "seed"),
    *("level", "kind", "reads", "trained", "labels"),
)
WEIGHT_COLUMNS = (*_ABOUT, "view", "mean", "low", "median", "high", "largest", "n")
RELIABILITY_COLUMNS = (*_ABOUT, "tenth", "margin_low", "margin_high", "upright", "accuracy", "n")

_PARTS = {"output": "pooled", "maps": "maps", "-": "pooled"}

_Config = ZeroShotConfig | FinetuneConfig
_Job = tuple[_Config, Variant, int, str]


def run_study(config: _Config) -> pd.DataFrame:
    """Run what is not done yet; write ``study.csv``, ``weights.csv``, ``reliability.csv`` and ``record.json``.

    Raises:
        ValueError: Something unknown in the configuration, or too few images.
    """
    check_config(config)
    variants = variants_of(config)
    parts = sorted({_PARTS[variant.level] for variant in variants})
    parts += ["inputs"] if any(variant.reads == "inputs" for variant in variants) else []
    benches = _prepared(config)
    wanted = [features for bench in benches for features in bench.all_features(config.group, parts)]
    with main_process_first(config.device):
        compute_missing(wanted, config.n_jobs)
    jobs: list[_Job] = []
    for variant in variants:
        trained = variant.trained != "nothing" or config.model == "small-cnn"
        for seed in range(config.seeds if trained else 1):
            jobs.append((config, variant, seed, benches[min(seed, len(benches) - 1)].key))
    whole = [job for job in jobs if job[1].trained == "whole"]
    frozen = [job for job in jobs if job[1].trained != "whole"]
    weighed = [job for job in frozen if job[1].method in ("equizero", "lambda_equitune")]
    picked = [job for job in weighed if job[1].method == "equizero"]
    n_jobs = 1 if in_several_processes() else config.n_jobs  # 1: in this process, one of those that go together
    with main_process_first(config.device):
        run_missing(frozen, _accuracies, _accuracy_file, COLUMNS, n_jobs)
        run_missing(weighed, _weights, _weights_file, WEIGHT_COLUMNS, n_jobs)
        run_missing(picked, _reliability, _reliability_file, RELIABILITY_COLUMNS, n_jobs)
    if whole:
        run_missing(whole, _accuracies, _accuracy_file, COLUMNS, n_jobs)
    with main_process_first(config.device):
        gather_runs([_accuracy_file(job) for job in jobs], COLUMNS, config.out / "study.csv")
        gather_runs([_weights_file(job) for job in weighed], WEIGHT_COLUMNS, config.out / "weights.csv")
        gather_runs([_reliability_file(job) for job in picked], RELIABILITY_COLUMNS, config.out / "reliability.csv")
        write_record(config.out / "record.json", config)
    return pd.read_csv(config.out / "study.csv")


def _prepared(config: _Config) -> list[Workbench]:
    """Return the workbench of every network; small CNNs are trained some at a time."""
    if config.model == "small-cnn" and config.seeds > 1 and config.n_jobs > 1 and not in_several_processes():
        Parallel(n_jobs=config.n_jobs)(delayed(_train)(config, seed) for seed in range(config.seeds))
    return [_workbench(config, seed) for seed in range(config.seeds if config.model == "small-cnn" else 1)]


def _train(config: _Config, seed: int) -> None:
    Workbench(config, seed)


@cache
def _workbench(config: _Config, seed: int) -> Workbench:
    return Workbench(config, seed)


def _bench(job: _Job) -> Workbench:
    config, _, seed, _ = job
    return _workbench(config, seed if config.model == "small-cnn" else 0)


def _file(kind: str, job: _Job) -> Path:
    config, variant, seed, key = job
    decisive: list[Any] = [key, vars(variant), config.any_angle]
    if variant.trained == "whole" and isinstance(config, FinetuneConfig):
        whole = [config.whole_steps, config.learning_rate, config.batch_size, config.accumulate, config.mixed_precision]
        decisive.append(whole)
    return run_file(config.out, f"{kind}-{variant.name}-{seed}", decisive)


def _accuracy_file(job: _Job) -> Path:
    return _file("study", job)


def _weights_file(job: _Job) -> Path:
    return _file("weights", job)


def _reliability_file(job: _Job) -> Path:
    return _file("reliability", job)


def _accuracies(job: _Job) -> Rows:
    _, variant, seed, _ = job
    bench = _bench(job)
    if variant.trained == "whole":
        found = _whole_accuracies(job)
    elif variant.method == "plain":
        found = _plain_accuracies(bench, variant.group)
    else:
        found = _symmetrized_accuracies(bench, _model(job), variant.group)
    about = (variant.level, variant.kind, variant.reads, variant.trained, variant.labels)
    return [
        (variant.method, variant.group, angle, round(float(right.double().mean()), 6), len(right), seed, *about)
        for angle, right in found
    ]


def _plain_accuracies(bench: Workbench, group: str) -> Iterator[tuple[str, Tensor]]:
    """Yield angles, and which images turned so the plain network classifies right, ``[N]``."""
    views = view_names(group)
    labels = bench.labels_of(bench.test)
    logits = _plain_logits(bench, bench.test_source(group, "0"), group)
    for g, view in enumerate(views):
        yield view, logits[:, g].argmax(dim=1) == labels
    yield "uniform", logits[torch.arange(len(logits)), bench.turns(group)].argmax(dim=1) == labels
    if bench.config.any_angle:
        yield "any", _plain_logits(bench, bench.test_source(group, "any"), group)[:, 0].argmax(dim=1) == labels


@torch.no_grad()
def _plain_logits(bench: Workbench, source: Source, group: str) -> Tensor:
    features = bench.features(source, group, "pooled")
    return torch.cat([bench.classifier.classifier(piece) for _, piece in features.pieces()])


def _symmetrized_accuracies(bench: Workbench, model: SymmetrizedClassifier, group: str) -> Iterator[tuple[str, Tensor]]:
    """Yield angles, and which images turned so are classified right, ``[N]``."""
    cayley = model.images.group.cayley.cpu()
    turns = bench.turns(group)
    exact = not isinstance(model.images, InterpolatedRotations)
    if exact:
        for h, view in enumerate(view_names(group)):
            yield view, _right(bench, model, group, "0", cayley[:, torch.full((len(bench.test),), h)].T)
        yield "uniform", _right(bench, model, group, "0", cayley[:, turns].T)
    else:
        for angle in ("0", "uniform"):
            yield angle, _right(bench, model, group, angle)
    if bench.config.any_angle:
        yield "any", _right(bench, model, group, "any")


@torch.no_grad()
def _right(
    bench: Workbench, model: SymmetrizedClassifier, group: str, angle: str, elements: Tensor | None = None
) -> Tensor:
    """Return which images are classified right; their views are taken in another order, ``elements [N, |G|]``."""
    labels = bench.labels_of(bench.test)
    found = []
    for rows, orbit_of in _orbits(bench, model, group, angle):
        moved = orbit_of(None if elements is None else elements[rows])
        found.append(model.logits_of_orbit(moved).argmax(dim=1) == labels[rows])
    return torch.cat(found)


def _orbits(bench: Workbench, model: SymmetrizedClassifier, group: str, angle: str) -> Iterator[tuple[slice, Any]]:
    """Yield rows, and a function that makes their orbit, its views taken in a given order."""
    source = bench.test_source(group, angle)
    seen_pieces = bench.features(source, group, _PARTS[model.level]).pieces()
    if model.reads == "features":
        pairs: Any = ((rows, seen, None) for rows, seen in seen_pieces)
    else:
        small_pieces = bench.features(source, group, "inputs").pieces()
        pairs = ((rows, seen, small) for (rows, seen), (_, small) in zip(seen_pieces, small_pieces, strict=True))
    for rows, seen, small in pairs:

        def orbit_of(elements: Tensor | None, seen: Tensor = seen, small: Tensor | None = small) -> Any:
            if elements is not None:
                seen = take_views(seen, elements)
                small = None if small is None else take_views(small, elements)
            return model.orbit(seen, small)

        yield rows, orbit_of


def _model(job: _Job) -> SymmetrizedClassifier:
    """Return the symmetrized network; λ is fitted, or read if it has been."""
    config, variant, seed, _ = job
    bench = _bench(job)
    inputs = _pooled_length(bench)
    aggregator = _aggregator(variant, inputs, seed)
    reads = variant.reads if variant.method == "lambda_equitune" else "features"
    model = SymmetrizedClassifier(bench.classifier, variant.group, aggregator, variant.level, reads).eval()
    if variant.method != "lambda_equitune":
        return model
    path = _lambda_file(job)
    if path.exists():
        aggregator.load_state_dict(torch.load(path, weights_only=True))
        return model
    seen = bench.features(Source(bench.labelled), variant.group, _PARTS[variant.level]).load()[: variant.labels]
    small = None
    if reads == "inputs":
        small = bench.features(Source(bench.labelled), variant.group, "inputs").load()[: variant.labels]
    labels = bench.labels_of(bench.labelled)[: variant.labels]
    with SummaryWriter(str(config.out / "tb" / f"{variant.name}-{seed}")) as writer:
        train, held_out = say_in(writer, "lambda/train"), say_in(writer, "lambda/held_out")

        def report(epoch: int, of_train: float, of_held_out: float) -> None:
            train(epoch, of_train)
            held_out(epoch, of_held_out)

        fit_lambda(model, seen, labels, seed, small, report=report)
    with written_whole(path) as temporary:
        torch.save(aggregator.state_dict(), temporary)
    return model


def _aggregator(variant: Variant, inputs: int, seed: int) -> Any:
    torch.manual_seed(seed)
    if variant.method == "equizero":
        return make_image_aggregator("equizero", inputs, proxy_loss_of(variant.kind))
    if variant.method == "lambda_equitune":
        return make_image_aggregator("lambda_equitune", inputs, lambda_network=variant.kind, reads=variant.reads)
    return make_image_aggregator(variant.method, inputs)


def _lambda_file(job: _Job) -> Path:
    config, variant, seed, key = job
    about = Variant(variant.method, variant.group, variant.level, variant.kind, variant.reads, "lambda", variant.labels)
    return run_file(config.out, f"lambda-{about.name}-{seed}", [key, vars(about)]).with_suffix(".pt")


@torch.no_grad()
def _pooled_length(bench: Workbench) -> int:
    classifier = bench.classifier
    blank = torch.zeros(1, 3, classifier.size, classifier.size, device=classifier.mean.device)
    return int(classifier.pooled(classifier.maps(blank)).shape[1])


def _whole_accuracies(job: _Job) -> Iterator[tuple[str, Tensor]]:
    """Train the whole network through the method, on images turned at random; yield angles and what is right."""
    config, variant, seed, _ = job
    assert isinstance(config, FinetuneConfig)
    bench = _bench(job)
    plain = copy.deepcopy(bench.classifier)
    action = SymmetrizedClassifier(plain, variant.group, make_image_aggregator("equitune", 1)).images
    if variant.method == "plain":
        model: Any = plain
    else:
        fitted = _model(job)
        model = SymmetrizedClassifier(
            plain, variant.group, copy.deepcopy(fitted.aggregator), variant.level, fitted.reads
        )
    images = bench.labelled.subset(range(variant.labels))
    labels = bench.labels_of(images)
    order = action.group.order

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        return cast(Tensor, action.apply(torch.randint(order, (len(some),), generator=generator), some))

    path = _file("whole", job).with_suffix(".part")
    with SummaryWriter(str(config.out / "tb" / f"{variant.name}-{seed}")) as writer:
        train_images(
            model,
            lambda rows: read_images(images, rows.tolist(), plain.size),
            labels,
            seed,
            config.whole_steps,
            config.learning_rate,
            config.batch_size,
            config.accumulate,
            turned,
            progress=f"{variant.name}, seed {seed}",
            mixed_precision=config.mixed_precision,
            device=config.device,
            resume=path,
            report=say_in(writer, "whole/train"),
        )
    exact = not isinstance(action, InterpolatedRotations)
    for view in view_names(variant.group) if exact or variant.method == "plain" else ("0",):
        yield view, _right_of_images(bench, model, lambda some, rows, v=view: make_view(v, some))
    turns = bench.turns(variant.group)
    yield "uniform", _right_of_images(bench, model, lambda some, rows: cast(Tensor, action.apply(turns[rows], some)))
    if config.any_angle:
        degrees = torch.from_numpy(bench.any_degrees())
        yield "any", _right_of_images(bench, model, lambda some, rows: rotate(some, degrees[rows]))
    path.unlink(missing_ok=True)


@torch.no_grad()
def _right_of_images(bench: Workbench, model: Any, moved: Any) -> Tensor:
    labels = bench.labels_of(bench.test)
    found = []
    for at in range(0, len(bench.test), PIECE):
        rows = range(at, min(at + PIECE, len(bench.test)))
        images = moved(read_images(bench.test, rows, bench.classifier.size), slice(rows.start, rows.stop))
        for some, right in zip(images.split(32), labels[rows.start : rows.stop].split(32), strict=True):  # type: ignore[no-untyped-call]
            found.append(model(some.to(bench.config.device)).argmax(dim=1).cpu() == right)
    return torch.cat(found)


@torch.no_grad()
def _weights(job: _Job) -> Rows:
    """Return how λ, or equizero's choice, weighs each view of all upright test images."""
    _, variant, seed, _ = job
    bench, model = _bench(job), _model(job)
    weights = torch.cat(
        [model.aggregator.weights(orbit_of(None)) for _, orbit_of in _orbits(bench, model, variant.group, "0")]
    )
    largest = weights.argmax(dim=1)
    rows = []
    for g, view in enumerate(view_names(variant.group)):
        values = weights[:, g].double()
        low, median, high = (round(float(values.quantile(q)), 6) for q in (0.05, 0.5, 0.95))
        share = round(float((largest == g).double().mean()), 6)
        rows.append(
            (*_about(variant, seed), view, round(float(values.mean()), 6), low, median, high, share, len(values))
        )
    return rows


@torch.no_grad()
def _reliability(job: _Job) -> Rows:
    """Return tenths of the upright test images by margin: how often the choice is the upright view, and right."""
    _, variant, seed, _ = job
    bench, model = _bench(job), _model(job)
    labels = bench.labels_of(bench.test)
    margins, upright, right = [], [], []
    for rows, orbit_of in _orbits(bench, model, variant.group, "0"):
        orbit = orbit_of(None)
        losses = cast(Any, model.aggregator).proxy_loss(orbit)
        least = losses.sort(dim=1).values
        margins.append(least[:, 1] - least[:, 0])
        upright.append(losses.argmin(dim=1) == 0)
        right.append(model.logits_of_orbit(orbit).argmax(dim=1) == labels[rows])
    margin, is_upright, is_right = torch.cat(margins), torch.cat(upright), torch.cat(right)
    found = []
    for tenth, some in enumerate(np.array_split(margin.argsort().numpy(), 10)):
        if len(some):
            bounds = round(float(margin[some].min()), 6), round(float(margin[some].max()), 6)
            shares = (round(float(value[some].double().mean()), 6) for value in (is_upright, is_right))
            found.append((*_about(variant, seed), tenth + 1, *bounds, *shares, len(some)))
    return found


def _about(variant: Variant, seed: int) -> Sequence[Any]:
    return (
        *(variant.method, variant.group, variant.level, variant.kind),
        *(variant.reads, variant.trained, variant.labels, seed),
    )
