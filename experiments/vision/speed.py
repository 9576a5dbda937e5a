"""``equirl vision speed``: what each method costs, in time and peak memory, methods in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from equirl.experiments.bench.memory import peak_of_tensors
from equirl.experiments.devices import check_device
from equirl.experiments.vision.classifiers import load_backbone
from equirl.experiments.vision.config import SpeedConfig
from equirl.experiments.vision.symmetrized import SymmetrizedClassifier, make_image_aggregator

__all__ = ["SPEED_COLUMNS", "speed_rows"]

SPEED_COLUMNS = (
    *("model", "method", "group", "level", "order", "batch"),
    *("seconds", "seconds_low", "seconds_high", "ratio_to_plain", "peak_mb", "peak_ratio_to_plain"),
)

_CLASSES = 10


def speed_rows(config: SpeedConfig) -> Iterator[Sequence[Any]]:
    """Yield a row of ``SPEED_COLUMNS`` for each batch and variant: logits of a batch of random images, no gradients.

    Raises:
        ValueError: Something unknown, no rounds, or an empty batch.
    """
    if config.rounds < 1 or min(config.batch) < 1:
        raise ValueError(f"rounds and batch must be at least 1; got {config.rounds} and {list(config.batch)}")
    check_device(config.device)
    torch.set_num_threads(config.threads)
    classifier = load_backbone(config.model, _CLASSES).to(config.device).eval()
    models: dict[tuple[str, str, str], Any] = {("plain", "-", "-"): classifier}
    for group in config.group:
        for method in config.method:
            for level in config.level:
                aggregator = make_image_aggregator(method, classifier.pooled_length())
                model: nn.Module = SymmetrizedClassifier(classifier, group, aggregator, level)
                models[method, group, level] = model.to(config.device).eval()
    for batch in config.batch:
        images = torch.rand(batch, 3, classifier.size, classifier.size, device=config.device)
        times: dict[tuple[str, str, str], list[float]] = {key: [] for key in models}
        for _ in range(config.rounds + 1):  # the first warms up
            for key, model in models.items():
                times[key].append(_seconds(model, images))
        peaks = {key: _peak(model, images) for key, model in models.items()}
        plain = ("plain", "-", "-")
        for key, model in models.items():
            ratios = [ours / theirs for ours, theirs in zip(times[key][1:], times[plain][1:], strict=True)]
            seconds = statistics.median(times[key][1:]), min(times[key][1:]), max(times[key][1:])
            order = model.images.group.order if isinstance(model, SymmetrizedClassifier) else 1
            yield (
                *(config.model, *key, order, batch),
                *(round(value, 5) for value in seconds),
                *(round(statistics.median(ratios), 3), round(peaks[key], 2), round(peaks[key] / peaks[plain], 3)),
            )


@torch.no_grad()
def _seconds(model: nn.Module, images: torch.Tensor) -> float:
    started = time.perf_counter()
    model(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _peak(model: nn.Module, images: torch.Tensor) -> float:
    def run() -> None:
        with torch.no_grad():
            model(images)

    return peak_of_tensors(run, images.device.type)
