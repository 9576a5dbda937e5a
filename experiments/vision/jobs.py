"""One run of a study: a variant and a seed, its symmetrized network, and the files of its results."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator
from equirl.experiments.runs import run_file
from equirl.experiments.seeded import seeded
from equirl.experiments.vision.config import FinetuneConfig, StudyConfig, Variant, proxy_loss_of
from equirl.experiments.vision.images import read_images
from equirl.experiments.vision.lambda_fit import fit_lambda
from equirl.experiments.vision.training import board, n_processes, train_images
from equirl.experiments.vision.workbench import Workbench, workbench
from equirl.files import load_weights, written_whole
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator
from equirl.rotations import image_action

__all__ = ["Job", "fitted_model", "trained_network"]


class Job(NamedTuple):
    """One run.

    Attributes:
        config: The study.
        variant: The method, and the part of it that is trained.
        seed: Seed of all training.
        key: Key of the workbench, which stands for the network and the images.
    """

    config: StudyConfig
    variant: Variant
    seed: int
    key: str

    @property
    def bench(self) -> Workbench:
        """The workbench, made once in each process."""
        return workbench(self.config, self.seed if self.config.model == "small-cnn" else 0)

    @property
    def name(self) -> str:
        """Name of the variant and the seed, for files and curves."""
        return f"{self.variant.name}-{self.seed}"

    def file(self, kind: str) -> Path:
        """Return the file of one kind of its results; its name holds a digest of all settings that change them."""
        decisive: list[Any] = [self.key, vars(self.variant), self.config.any_angle]
        if self.variant.trained == "whole" and isinstance(self.config, FinetuneConfig):
            config = self.config
            decisive.append([config.whole_steps, config.learning_rate, config.batch_size, config.accumulate])
            decisive.append([config.mixed_precision, n_processes()])
        return run_file(self.config.out, f"{kind}-{self.name}", decisive)


def fitted_model(job: Job) -> SymmetrizedClassifier:
    """Return the symmetrized network; λ is fitted, or read if it has been fitted before."""
    variant, bench = job.variant, job.bench
    aggregator = _aggregator(variant, bench.classifier.pooled_length(), job.seed)
    reads = variant.reads if variant.method == "lambda_equitune" else "features"
    model = SymmetrizedClassifier(bench.classifier, variant.group, aggregator, variant.level, reads).eval()
    if variant.method != "lambda_equitune":
        return model
    frozen = replace(variant, trained="lambda")
    path = run_file(job.config.out, f"lambda-{frozen.name}-{job.seed}", [job.key, vars(frozen)]).with_suffix(".pt")
    if path.exists():
        load_weights(aggregator, path)
        return model
    rows = bench.labelled_rows(variant.labels, job.seed)
    source = bench.labelled_source(variant.group)
    views = {part: bench.features(source, variant.group, part).load(rows) for part in model.parts}
    labels = torch.from_numpy(bench.labelled.labels)[rows]
    with board(job.config.out / "tb" / job.name) as note:

        def report(epoch: int, train: float, held_out: float) -> None:
            note("lambda/train", epoch, train)
            note("lambda/held_out", epoch, held_out)

        fit_lambda(model, views, labels, job.seed, report=report)
    with written_whole(path) as temporary:
        torch.save(aggregator.state_dict(), temporary)
    return model


def trained_network(job: Job) -> nn.Module:
    """Return the whole network, trained through its method on images turned at random, λ along with it.

    An earlier training's result is read, and a training that was stopped continues.
    """
    config, variant, bench = job.config, job.variant, job.bench
    assert isinstance(config, FinetuneConfig)
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
    images = bench.labelled.subset(bench.labelled_rows(variant.labels, job.seed))
    action = image_action(variant.group, (3, network.size, network.size))

    def turned(some: Tensor, generator: torch.Generator) -> Tensor:
        elements = torch.randint(action.group.order, (len(some),), generator=generator)
        return cast(Tensor, action.transform(elements, some))

    state = path.with_suffix(".part")
    with board(config.out / "tb" / job.name) as note:
        train_images(
            model,
            lambda rows: read_images(images, rows.tolist(), network.size),
            torch.from_numpy(images.labels),
            job.seed,
            config.whole_steps,
            config.learning_rate,
            config.batch_size,
            config.accumulate,
            turned,
            progress=f"{variant.name}, seed {job.seed}",
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
