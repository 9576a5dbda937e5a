"""Symmetrized sequence models in folders without pickle: backbone, symmetry, method and λ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from equirl.aggregators import Aggregator, Mean, Select
from equirl.models.saved_models import (
    give_weights,
    group_as_data,
    read_group,
    read_model,
    usual_aggregator,
    weights_of,
    write_model,
)
from equirl.models.seq2seq import Seq2Seq, Transformer
from equirl.models.sequence_aggregators import SEQUENCE_PROXY_LOSSES, CommandScore, CommandWeighted
from equirl.models.sequence_base import SequenceModel, SequenceSymmetry
from equirl.safe_files import AllocationBudget

__all__ = ["load_sequences", "save_sequences"]

_KIND = "SymmetrizedSequenceModel"
_BACKBONES: dict[str, Callable[..., SequenceModel]] = {"Seq2Seq": Seq2Seq, "Transformer": Transformer}


def save_sequences(model: Any, folder: Path) -> None:
    """Write a ``SymmetrizedSequenceModel`` into a folder; see its ``save_pretrained``.

    Raises:
        ValueError: The folder holds something else, or the backbone or the aggregator is of the user's own.
    """
    if type(model).__name__ != _KIND:
        raise ValueError(
            f"{type(model).__name__} cannot be saved; save {_KIND}(model.model, model.symmetry, model.aggregator)"
        )
    backbone: SequenceModel = model.model
    if not isinstance(backbone, (Seq2Seq, Transformer)) or type(backbone).__name__ not in _BACKBONES:
        raise ValueError(
            f"{type(backbone).__name__} is a backbone of your own, which a folder without code cannot hold; "
            f"{' and '.join(_BACKBONES)} can be saved"
        )
    symmetry: SequenceSymmetry = model.symmetry
    group, tables = group_as_data({"command": symmetry.command, "actions": symmetry.actions})
    about = {
        "symmetry": {"name": symmetry.name, **group},
        "backbone": {"class": type(backbone).__name__, "arguments": backbone.arguments()},
        "aggregator": _as_data(model.aggregator),
    }
    weights = {**weights_of(backbone, "model"), **weights_of(model.aggregator, "aggregator")}
    write_model(folder, _KIND, about, {**tables, **weights})


def load_sequences(model_class: Callable[..., Any], folder: Path) -> Any:
    """Return the model that ``save_sequences`` wrote, in evaluation mode.

    Args:
        model_class: ``SymmetrizedSequenceModel``.
        folder: The folder.

    Raises:
        FileNotFoundError: There is no such model in the folder.
        ValueError: Its files are damaged; the message names them.
    """
    about, tensors = read_model(folder, _KIND)
    try:
        moved = read_group(about["symmetry"], tensors, ("command", "actions"))
        symmetry = SequenceSymmetry(about["symmetry"]["name"], moved["command"], moved["actions"])
        with AllocationBudget.for_weights(sum(tensor.nbytes for tensor in tensors.values())):
            backbone = _BACKBONES[about["backbone"]["class"]](**about["backbone"]["arguments"])
            aggregator = _aggregator(about["aggregator"])
        give_weights(backbone, tensors, "model", folder)
        give_weights(aggregator, tensors, "aggregator", folder)
        return model_class(backbone, symmetry, aggregator).eval()
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{folder} holds no {_KIND} that can be made ({type(error).__name__}: {error})") from error


def _as_data(aggregator: Aggregator) -> dict[str, Any]:
    if usual := usual_aggregator(aggregator, SEQUENCE_PROXY_LOSSES):
        return usual[0]
    if type(aggregator) is CommandWeighted and type(aggregator.network) is CommandScore:
        words = aggregator.network.words
        sizes = {"vocabulary": words.num_embeddings, "width": words.embedding_dim}
        return {"method": "lambda_equitune", "temperature": aggregator.temperature, **sizes}
    raise ValueError(
        f"{type(aggregator).__name__} is an aggregator of your own, which from_pretrained could not make again; those "
        "of make_sequence_aggregator can be saved"
    )


def _aggregator(about: dict[str, Any]) -> Aggregator:
    if about["method"] == "equitune":
        return Mean()
    if about["method"] == "equizero":
        return Select(SEQUENCE_PROXY_LOSSES[about["proxy_loss"]], about["gradient"], about["tie_tolerance"])
    return CommandWeighted(CommandScore(about["vocabulary"], about["width"]), about["temperature"])
