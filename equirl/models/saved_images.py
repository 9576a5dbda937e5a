"""Symmetrized image classifiers in folders without pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from equirl.aggregators import Aggregator, Mean, Select, Weighted
from equirl.models.image_backbones import load_backbone
from equirl.models.image_classifier import Classifier
from equirl.models.image_lambda import LAMBDA_NETWORKS, make_lambda
from equirl.models.saved_models import give_weights, read_model, usual_aggregator, weights_of, write_model
from equirl.proxy_losses import PROXY_LOSSES

__all__ = ["load_classifier", "save_classifier"]

_KIND = "SymmetrizedClassifier"


def save_classifier(model: Any, folder: Path) -> None:
    """Write a ``SymmetrizedClassifier`` into a folder; see its ``save_pretrained``.

    Raises:
        ValueError: The folder holds something else, or the aggregator is of the user's own.
    """
    classifier: Classifier = model.classifier
    about = {
        "group": model.group,
        "level": model.level,
        "reads": model.reads,
        "size": classifier.size,
        "backbone": classifier.made_by,
        "aggregator": _as_data(model.aggregator),
    }
    tensors = {**weights_of(classifier, "classifier"), **weights_of(model.aggregator, "aggregator")}
    tensors |= {"mean": classifier.mean, "std": classifier.std}
    write_model(folder, _KIND, about, tensors)


def load_classifier(model_class: Callable[..., Any], folder: Path, classifier: Classifier | None) -> Any:
    """Return the model that ``save_classifier`` wrote, in evaluation mode.

    Args:
        model_class: ``SymmetrizedClassifier``.
        folder: The folder.
        classifier: The backbone, where it was not made by ``load_backbone``; it gets the saved weights.

    Raises:
        FileNotFoundError: There is no such model in the folder.
        ValueError: Its files are damaged, or it needs its backbone.
    """
    about, tensors = read_model(folder, _KIND)
    try:
        made_by = about["backbone"]
        if classifier is None:
            if made_by is None:
                raise ValueError(
                    f"{folder} holds the weights of a network of your own, whose code it does not hold: give it, "
                    "from_pretrained(folder, classifier=...)"
                )
            classifier = load_backbone(made_by["name"], made_by["classes"])
        if classifier.size != about["size"]:
            raise ValueError(f"{folder} holds a classifier of images of {about['size']} rows, not of {classifier.size}")
        give_weights(classifier, tensors, "classifier", folder)
        classifier.mean.copy_(tensors["mean"])
        classifier.std.copy_(tensors["std"])
        aggregator = _aggregator(about["aggregator"])
        give_weights(aggregator, tensors, "aggregator", folder)
        return model_class(classifier, about["group"], aggregator, about["level"], about["reads"]).eval()
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder} holds no {_KIND} that can be made ({type(error).__name__}: {error})") from error


def _as_data(aggregator: Aggregator) -> dict[str, Any]:
    if usual := usual_aggregator(aggregator, PROXY_LOSSES):
        return usual[0]
    shapes = {name: value.shape for name, value in aggregator.state_dict().items()}
    for name in LAMBDA_NETWORKS:
        width = _width(aggregator)
        like = None if width is None else make_lambda(name, width)
        same = like is not None and shapes == {key: value.shape for key, value in like.state_dict().items()}
        if like is not None and same and type(like) is type(aggregator):
            if isinstance(aggregator, Weighted) and (aggregator.reads, aggregator.temperature) != ("features", 1.0):
                break
            return {"method": "lambda_equitune", "network": name, "inputs": width}
    raise ValueError(
        f"{type(aggregator).__name__} is an aggregator of your own, which from_pretrained could not make again; those "
        "of make_image_aggregator can be saved"
    )


def _width(aggregator: Aggregator) -> int | None:
    """Return the length of what a λ-network reads."""
    first = next((value for value in aggregator.parameters() if value.ndim == 2), None)
    embedded = aggregator.state_dict().get("embed.weight", first)
    return None if embedded is None else int(embedded.shape[1])


def _aggregator(about: dict[str, Any]) -> Aggregator:
    if about["method"] == "equitune":
        return Mean()
    if about["method"] == "equizero":
        return Select(about["proxy_loss"], about["gradient"], about["tie_tolerance"])
    return make_lambda(about["network"], about["inputs"])
