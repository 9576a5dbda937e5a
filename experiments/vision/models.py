"""The symmetrized network of a run: λ fitted, or the whole of it trained; what has been fitted is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from equirl import Aggregator
from equirl.agents.files import written_whole
from equirl.experiments.runs import run_file
from equirl.experiments.vision.config import FinetuneConfig, Variant, proxy_loss_of
from equirl.experiments.vision.jobs import Job
from equirl.experiments.vision.orbit_features import Source, read_images
from equirl.experiments.vision.rotations import image_action
from equirl.experiments.vision.symmetrized import SymmetrizedClassifier, make_image_aggregator
from equirl.experiments.vision.training import fit_lambda, train_images
from equirl.experiments.vision.workbench import say_in

__all__ = ["fitted_model", "forget_training", "trained_network"]


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
        aggregator.load_state_dict(torch.load(path, weights_only=True))
        return model
    seen = bench.features(Source(bench.labelled), variant.group, variant.part).load()[: variant.labels]
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


def trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it.

    What a stop leaves is gone on from; ``forget_training`` removes it once the result is kept.
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
    images = bench.labelled.subset(range(variant.labels))
    action = image_action(variant.group, (3, network.size, network.size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        return cast(Tensor, action.apply(torch.randint(action.group.order, (len(some),), generator=generator), some))

    with SummaryWriter(str(config.out / "tb" / f"{variant.name}-{seed}")) as writer:
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
            resume=_state_file(job),
            report=say_in(writer, "whole/train"),
        )
    return model


def forget_training(job: Job) -> None:
    """Remove the state of a training whose result is kept."""
    _state_file(job).unlink(missing_ok=True)


def _state_file(job: Job) -> Path:
    return job.file("whole").with_suffix(".part")


def _aggregator(variant: Variant, inputs: int, seed: int) -> Aggregator:
    torch.manual_seed(seed)
    if variant.method == "equizero":
        return make_image_aggregator("equizero", inputs, proxy_loss_of(variant.kind))
    if variant.method == "lambda_equitune":
        return make_image_aggregator("lambda_equitune", inputs, lambda_network=variant.kind, reads=variant.reads)
    return make_image_aggregator(variant.method, inputs)


def _lambda_file(job: Job) -> Path:
    config, variant, seed, key = job
    about = Variant(variant.method, variant.group, variant.level, variant.kind, variant.reads, "lambda", variant.labels)
    return run_file(config.out, f"lambda-{about.name}-{seed}", [key, vars(about)]).with_suffix(".pt")
