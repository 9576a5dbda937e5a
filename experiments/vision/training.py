"""Training image classifiers: plain ones, λ on features of all views, and whole symmetrized networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from equirl.arguments import whole_number
from equirl.experiments.extras import VISION, needed
from equirl.experiments.vision.labelled_images import check_labels
from equirl.experiments.vision.processes import is_main_process
from equirl.files import read_saved, written_whole
from equirl.models.images import SymmetrizedClassifier

__all__ = ["fit_lambda", "take_views", "train_images"]

_HELD_OUT = 0.2


def take_views(features: Tensor, elements: Tensor) -> Tensor:
    """Return the views ``elements [N, |G|]`` of features ``[N, |G|, ...]``."""
    return features[torch.arange(len(features)).unsqueeze(1), elements]


def fit_lambda(
    model: SymmetrizedClassifier,
    views: Mapping[str, Tensor],
    labels: Tensor,
    seed: int,
    epochs: int = 100,
    learning_rate: float = 1e-3,
    batch_size: int = 128,
    patience: int = 15,
    report: Callable[[int, float, float], None] | None = None,
) -> float:
    """Fit λ alone, the network untouched: cross-entropy of the logits.

    Upright images or turned ones make no difference where the group acts exactly: the orbit of a turned image holds the
    same views, and the model is invariant. Where turns are interpolated they do; give orbits of turned images.

    A fifth is held out for early stopping, at least one image; the weights that did best there are kept. One image is
    held out and learned from.

    Args:
        model: With λ-equitune.
        views: What ``model.orbit`` takes, by name: of all views ``[N, |G|, ...]``.
        labels: Integers ``[N]``.
        seed: Of the split and the batches.
        epochs: At most.
        learning_rate: Of Adam.
        batch_size: Images in a gradient step.
        patience: Epochs without a lower held-out loss after which it ends.
        report: Called after each epoch with its number, the training loss and the held-out loss.

    Returns:
        The least held-out loss.

    Raises:
        ValueError: Labels that are no classes, or of another number than the images; or a setting that means nothing.
        TypeError: A model without λ.
    """
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        whole_number(number, name, 1)
    _check_rate(learning_rate)
    if not list(model.aggregator.parameters()):
        raise TypeError(f"λ is fitted of a model with λ-equitune; this one has {type(model.aggregator).__name__}")
    if not len(labels):
        raise ValueError("λ is fitted on at least one labelled image; there are none")
    for part, features in views.items():
        if len(features) != len(labels):
            raise ValueError(f"each image needs a label; got {len(features)} images ({part}) and {len(labels)} labels")
    check_labels(labels, len(labels), model.logits.shape[0])
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    n_held_out = max(1, round(_HELD_OUT * len(labels)))
    judged, fits = order[:n_held_out], order[n_held_out:]
    if len(fits) == 0:
        fits = judged
    network = model.aggregator
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    resting = [parameter for parameter in model.classifier.parameters() if parameter.requires_grad]

    def loss_of(rows: Tensor) -> Tensor:
        orbit = model.orbit(**{part: features[rows] for part, features in views.items()})
        return nn.functional.cross_entropy(model.logits_of_orbit(orbit), labels[rows])

    best, since = float("inf"), 0
    weights = copy.deepcopy(network.state_dict())
    for parameter in resting:
        parameter.requires_grad_(False)
    try:
        for epoch in range(epochs):
            losses = []
            for rows in fits[torch.randperm(len(fits), generator=generator)].split(batch_size):  # type: ignore[no-untyped-call]
                loss = loss_of(rows)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.detach())
            with torch.no_grad():
                value = float(loss_of(judged))
            if report is not None:
                report(epoch, float(torch.stack(losses).mean()), value)
            since += 1
            if value < best:
                best, since, weights = value, 0, copy.deepcopy(network.state_dict())
            if since >= patience:
                break
    finally:
        for parameter in resting:
            parameter.requires_grad_(True)
    network.load_state_dict(weights)
    return best


def train_images(
    model: nn.Module,
    read: Callable[[Tensor], Tensor],
    labels: Tensor,
    seed: int,
    steps: int,
    learning_rate: float,
    batch_size: int = 64,
    accumulate: int = 1,
    turned: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    progress: str | None = None,
    mixed_precision: str = "no",
    device: str = "cpu",
    resume: Path | None = None,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train all parameters of a network on images, cross-entropy of its logits, with ``accelerate``.

    Args:
        model: ``[N, 3, S, S] -> [N, K]``; λ, where there is one, is trained along.
        read: Numbers of images ``[n]`` to the images, ``[n, 3, S, S]``.
        labels: Integers ``[N]``.
        seed: Of batches and turns.
        steps: Gradient steps, at least 1.
        learning_rate: Of AdamW, falling to zero along a half cosine.
        batch_size: Images on each device at once.
        accumulate: Batches in a gradient step.
        turned: Turns a batch at random; ``None``: as they are.
        progress: What the bar says; ``None``: no bar.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``.
        device: ``"cpu"``, or anything else: what ``accelerate`` finds, one or many.
        resume: File of the state; a training that was stopped goes on from it. To be removed by who keeps the result.
        report: Called every 50 steps with the step and the mean loss since.

    Raises:
        ValueError: No labels, negative ones, or a setting that means nothing.
    """
    for name, number in (("steps", steps), ("batch_size", batch_size), ("accumulate", accumulate)):
        whole_number(number, name, 1)
    _check_rate(learning_rate)
    if not len(labels):
        raise ValueError("a network is trained on at least one labelled image; there are none")
    check_labels(labels, len(labels), int(labels.max()) + 1)
    accelerate = needed("accelerate", VISION)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # of one process; several have one each
    accelerator = accelerate.Accelerator(
        cpu=device == "cpu", mixed_precision=mixed_precision, gradient_accumulation_steps=accumulate
    )
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    rates: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    done = 0
    if resume is not None and resume.exists():
        state = read_saved(resume)
        model.load_state_dict(state["weights"])
        optimizer.load_state_dict(state["optimizer"])
        rates.load_state_dict(state["rates"])
        generator.set_state(state["generator"])
        torch.set_rng_state(state["dropout"])
        if torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["dropout_cuda"])
        done = state["done"]
        if accelerator.scaler is not None:
            accelerator.scaler.load_state_dict(state["scaler"])
    wrapped, prepared = accelerator.prepare(model, optimizer)
    wrapped.train()
    losses: list[Tensor] = []
    for step in tqdm(range(done, steps), initial=done, total=steps, desc=progress, disable=_quiet(progress)):
        for _ in range(accumulate):
            rows = torch.randint(len(labels), (batch_size * accelerator.num_processes,), generator=generator)
            rows = rows[accelerator.process_index :: accelerator.num_processes]
            batch = read(rows) if turned is None else turned(read(rows), generator)
            with accelerator.accumulate(wrapped):
                loss = nn.functional.cross_entropy(
                    wrapped(batch.to(accelerator.device)), labels[rows].to(accelerator.device)
                )
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), 5.0)
                prepared.step()
                prepared.zero_grad()
            losses.append(loss.detach())
        rates.step()
        if (step + 1) % 50 == 0:
            mean = float(torch.stack(losses).mean())
            losses.clear()
            if resume is not None and accelerator.is_main_process:
                state = {
                    "weights": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "rates": rates.state_dict(),
                    "generator": generator.get_state(),
                    "dropout": torch.get_rng_state(),
                    "dropout_cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
                    "scaler": None if accelerator.scaler is None else accelerator.scaler.state_dict(),
                    "done": step + 1,
                }
                with written_whole(resume) as temporary:
                    torch.save(state, temporary)
            if report is not None:
                report(step + 1, mean)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False).eval()


def _check_rate(learning_rate: float) -> None:
    if not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a finite number, 0 or more; got {learning_rate}")


def _quiet(progress: str | None) -> bool | None:
    """Return what tqdm is to do: no bar, or one if there is a terminal."""
    return True if progress is None or not is_main_process() else None
