"""Fitting λ of an image classifier on features of all views, with early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.lambda_fit import FitSettings, LambdaFitReport, epochs_of_batches, fit_weights
from equirl.models.image_classifier import check_labels
from equirl.models.images import SymmetrizedClassifier

__all__ = ["fit_lambda"]

_HELD_OUT = 0.2


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
) -> LambdaFitReport:
    """Fit λ alone, by the cross-entropy of the logits; the network stays as it is.

    Where the group acts exactly, upright and turned images give the same fit: their orbits hold the same views, and
    the model is invariant. Where turns are interpolated the fit needs orbits of turned images.

    A fifth of the images, at least one, is held out for early stopping, and the weights with the least held-out loss
    are kept. With a single image, it serves for training and for validation.

    Args:
        model: A classifier with λ-equitune.
        views: The arguments of ``model.orbit`` by name, each for all views, ``[N, |G|, ...]``.
        labels: Classes, integers ``[N]``.
        seed: Seed of the split and of the batches.
        epochs: Largest number of epochs.
        learning_rate: Adam's learning rate.
        batch_size: Images in a gradient step.
        patience: Number of epochs without a lower held-out loss after which the fit ends.
        report: Function that is called after each epoch with its number, the training loss and the held-out loss.

    Returns:
        How it went.

    Raises:
        ValueError: Labels that are no classes, another number of labels than of images, or a setting out of range.
        TypeError: A model without λ.
    """
    epochs = whole_number(epochs, "epochs", 1)
    whole_number(batch_size, "batch_size", 1)
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
    held_out, fits = order[:n_held_out], order[n_held_out:]
    if len(fits) == 0:
        fits = held_out
    per_epoch = math.ceil(len(fits) / batch_size)
    settings = FitSettings(epochs * per_epoch, batch_size, learning_rate, _HELD_OUT, patience, seed)

    def loss_of(rows: Tensor) -> Tensor:
        orbit = model.orbit(**{part: features[rows] for part, features in views.items()})
        return nn.functional.cross_entropy(model.logits_of_orbit(orbit), labels[rows])

    def held_out_loss() -> float:
        with torch.no_grad():
            return float(loss_of(held_out))

    def note(step: int, train: float, value: float) -> None:
        if report is not None:
            report(step // per_epoch - 1, train, value)

    resting = [parameter for parameter in model.classifier.parameters() if parameter.requires_grad]
    for parameter in resting:
        parameter.requires_grad_(False)
    try:
        return fit_weights(
            model.aggregator,
            loss_of,
            held_out_loss,
            epochs_of_batches(fits, batch_size, generator),
            settings,
            look_every=per_epoch,
            n_samples=len(labels),
            keep_start=False,
            note=note,
        )
    finally:
        for parameter in resting:
            parameter.requires_grad_(True)
