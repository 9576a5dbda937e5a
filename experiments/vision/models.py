"""The symmetrized network of a run: λ fitted, or the whole of it trained; what has been fitted is read."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator
from equirl.experiments.runs import run_file
from equirl.experiments.vision.board import board
from equirl.experiments.vision.config import FinetuneConfig, Variant, proxy_loss_of
from equirl.experiments.vision.jobs import Job
from equirl.experiments.vision.orbit_features import read_images
from equirl.experiments.vision.training import fit_lambda, train_images
from equirl.files import load_weights, written_whole
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.rotations import image_action
from equirl.seeded import seeded

__all__ = ["fitted_model", "trained_network"]


def fitted_model(job: Job) -> SymmetrizedClassifier:
    """Return the symmetrized network; λ is fitted, or read if it has been."""
    config, variant, seed, _ = job
    bench = job.bench
    aggregator = _aggregator(variant, bench.classifier.pooled_length(), seed)
    reads = variant.reads if variant.method == "lambda_equitune" else "features"
    model = SymmetrizedClassifier(bench.classifier, variant.group, aggregator, variant.level, reads).eval()
    if variant.method != "lambda_equitune":
        return model
    path = _lambda_file(job)
    if path.exists():
        load_weights(aggregator, path)
        return model
    rows = bench.labelled_rows(variant.labels, seed)
    source = bench.labelled_source(variant.group)
    views = {part: bench.features(source, variant.group, part).load(rows) for part in model.parts}
    labels = bench.labels_of(bench.labelled)[rows]
    with board(config.out / "tb" / f"{variant.name}-{seed}") as note:

        def report(epoch: int, train: float, held_out: float) -> None:
            note("lambda/train", epoch, train)
            note("lambda/held_out", epoch, held_out)

        fit_lambda(model, views, labels, seed, report=report)
    with written_whole(path) as temporary:
        torch.save(aggregator.state_dict(), temporary)
    return model


def trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it.

    What a stop leaves is gone on from, and what has been trained is read.
    """
    config, variant, seed, _ = job
    assert isinstance(config, FinetuneConfig)
    bench = job.bench
    network = copy.deepcopy(bench.classifier)
    model: nn.Module = network
    if variant.method != "plain":
        fitted = fitted_model(job)
        aggregator = copy.deepcopy(fitted.aggregator)
        model = SymmetrizedClassifier(network, variant.group, aggregator, variant.level, fitted.reads)
    path = job.file("network").with_suffix(".pt")
    if path.exists():
        load_weights(model, path)
        return model.eval()
    images = bench.labelled.subset(bench.labelled_rows(variant.labels, seed))
    action = image_action(variant.group, (3, network.size, network.size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        elements = torch.randint(action.group.order, (len(some),), generator=generator)
        return cast(Tensor, action.transform(elements, some))

    state = path.with_suffix(".part")
    with board(config.out / "tb" / f"{variant.name}-{seed}") as note:
        train_images(
            model,
            lambda rows: read_images(images, rows.tolist(), network.size),
            bench.labels_of(images),
            seed,
            config.whole_steps,
            config.learning_rate,
            config.batch_size,
            config.accumulate,
            turned,
            progress=f"{variant.name}, seed {seed}",
            mixed_precision=config.mixed_precision,
            device=config.device,
            resume=state,
            report=partial(note, "whole/train"),
        )
    with written_whole(path) as temporary:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, temporary)
    state.unlink(missing_ok=True)
    return model


def _aggregator(variant: Variant, inputs: int, seed: int) -> Aggregator:
    if variant.method == "equizero":
        return make_image_aggregator("equizero", inputs, proxy_loss_of(variant.kind))
    if variant.method == "lambda_equitune":
        with seeded(seed):
            return make_image_aggregator("lambda_equitune", inputs, lambda_network=variant.kind, reads=variant.reads)
    return make_image_aggregator(variant.method, inputs)


def _lambda_file(job: Job) -> Path:
    config, variant, seed, key = job
    about = Variant(variant.method, variant.group, variant.level, variant.kind, variant.reads, "lambda", variant.labels)
    return run_file(config.out, f"lambda-{about.name}-{seed}", [key, vars(about)]).with_suffix(".pt")
