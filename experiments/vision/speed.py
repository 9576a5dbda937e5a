"""``equirl vision speed``: what each method costs, in time and peak memory, methods in turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from equirl.experiments.bench.memory import peak_of_tensors
from equirl.experiments.bench.timing import Settings, in_turns
from equirl.experiments.devices import check_device
from equirl.experiments.vision.classifiers import load_backbone
from equirl.experiments.vision.config import SpeedConfig
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator

__all__ = ["SPEED_COLUMNS", "speed_rows"]

SPEED_COLUMNS = (
    *("model", "method", "group", "level", "order", "batch"),
    *("seconds", "seconds_low", "seconds_high", "ratio_to_plain", "peak_mb", "peak_ratio_to_plain"),
)

_CLASSES = 10


def speed_rows(config: SpeedConfig) -> Iterator[Sequence[Any]]:
    """Yield a row of ``SPEED_COLUMNS`` for each batch and variant: logits of a batch of random images, no gradients.

    Raises:
        ValueError: An unknown model, or a device that cannot be used here.
    """
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
    settings = Settings(config.device, config.threads, config.rounds, min_seconds=0.0, quick=False)
    for batch in config.batch:
        images = torch.rand(batch, 3, classifier.size, classifier.size, device=config.device)
        cases = {" ".join(key): partial(_logits, model, images) for key, model in models.items()}
        times = {name: np.array(seconds) for name, seconds in in_turns(cases, settings).items()}
        peaks = {name: peak_of_tensors(case, images.device.type) for name, case in cases.items()}
        plain = next(iter(cases))
        for (key, model), name in zip(models.items(), cases, strict=True):
            low, middle, high = np.percentile(times[name], [25, 50, 75])
            order = model.images.group.order if isinstance(model, SymmetrizedClassifier) else 1
            yield (
                *(config.model, *key, order, batch),
                *(round(float(value), 5) for value in (middle, low, high)),
                round(float(np.median(times[name] / times[plain])), 3),
                *(round(peaks[name], 2), round(peaks[name] / peaks[plain], 3)),
            )


@torch.no_grad()
def _logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(images)
    return logits
