"""Symmetrized language models on disk: the backbone as ``transformers`` saves it, the symmetry and λ beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from equirl.aggregators import Aggregator, Mean, Weighted
from equirl.models.lm_aggregators import LookAhead, make_lm_aggregator
from equirl.models.saved_models import give_weights, weights_of
from equirl.models.token_actions import TokenAction
from equirl.models.word_groups import WordGroup
from equirl.safe_files import checksum_of_tensors, read_json, read_tensors, write_json, write_tensors
from equirl.tokens import TokenRepresentation

__all__ = ["load_symmetrized", "save_symmetrized"]

_BACKBONE, _SYMMETRY, _TENSORS = "backbone", "symmetry.json", "symmetry.safetensors"
_FORMAT = 2


def save_symmetrized(model: Any, folder: Path, **settings: Any) -> None:
    """Write a symmetrized model into a folder; see ``SymmetrizedLM.save_pretrained``.

    Args:
        model: The ``SymmetrizedLM``.
        folder: The folder; it is made.
        **settings: Arguments of the backbone's ``save_pretrained``.

    Raises:
        ValueError: The folder holds another model, or the aggregator is of the user's own.
    """
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} holds another model already (config.json); save the symmetrized one elsewhere")
    method = _method_of(model)
    (folder / _SYMMETRY).unlink(missing_ok=True)  # written last: what is there is whole
    model.backbone.save_pretrained(folder / _BACKBONE, **settings)
    tensors = {"tokens": model.tokens.table}
    if method == "lambda_equitune":
        tensors |= weights_of(model.aggregator, _LAMBDA)
    action = model.action
    about: dict[str, Any] = {"format": _FORMAT, "method": method, "words": asdict(action.words)}
    about |= {"relaxed": action.relaxed, "moved": action.moved, "left_out": action.left_out, "pieces": action.pieces}
    if isinstance(model.aggregator, LookAhead):
        about |= {"look_ahead": model.aggregator.tokens, "pad_token_id": model.aggregator.pad_token_id}
    about |= {"checksum": checksum_of_tensors(tensors), "backbone": _checksums(folder / _BACKBONE)}
    written = folder / f".{_SYMMETRY}"
    checksum = write_json(written, about)
    write_tensors(folder / _TENSORS, tensors, **{_SYMMETRY: checksum})
    written.replace(folder / _SYMMETRY)


def load_symmetrized(
    model_class: Callable[..., Any],
    folder: Path,
    loss: Callable[[list[str]], Sequence[float]] | None = None,
    decode: Callable[[Tensor], list[str]] | None = None,
    **settings: Any,
) -> Any:
    """Return the model that ``save_symmetrized`` wrote, in evaluation mode.

    Args:
        model_class: ``SymmetrizedLM``.
        folder: The folder.
        loss: The loss of equizero, which is a function and not in the folder.
        decode: The tokenizer's decoding, for equizero.
        **settings: Of ``AutoModelForCausalLM.from_pretrained``, for the backbone.

    Raises:
        FileNotFoundError: There is no such model in the folder.
        ValueError: Its files are damaged, or equizero is without its loss.
    """
    import transformers

    path = folder / _SYMMETRY
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no symmetrized language model ({_SYMMETRY} is not there); SymmetrizedLM.save_pretrained "
            "writes one"
        )
    about, checksum = read_json(path)
    if about.get("format", _FORMAT) != _FORMAT:
        raise ValueError(
            f"{path} has the format {about['format']!r}, and this version of equirl reads {_FORMAT}; symmetrize the "
            "backbone beside it again"
        )
    try:
        method, relaxed = about["method"], bool(about["relaxed"])
        rows = {name: tuple(map(tuple, about[name])) for name in ("moved", "left_out", "pieces")}
        words = _words(about["words"])
        look_ahead, pad = about.get("look_ahead", 1), about.get("pad_token_id", 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not what SymmetrizedLM.save_pretrained writes ({error})") from error
    if method == "equizero" and (loss is None or decode is None):
        raise ValueError(
            f"{folder} holds a model with equizero, whose loss of texts is a function and is not saved: give "
            "from_pretrained(folder, loss=..., decode=tokenizer.batch_decode)"
        )
    tensors, header = read_tensors(folder / _TENSORS)
    if header.get(_SYMMETRY) != checksum or checksum_of_tensors(tensors) != about.get("checksum"):
        raise ValueError(f"{folder / _TENSORS} does not match its checksum, or is of another model; {_AGAIN}")
    if _checksums(folder / _BACKBONE) != about.get("backbone"):
        raise ValueError(f"{folder / _BACKBONE} holds another backbone than was saved, or a damaged one; {_AGAIN}")
    settings = {"use_safetensors": True, **settings}  # and no pickle
    backbone = transformers.AutoModelForCausalLM.from_pretrained(folder / _BACKBONE, **settings)
    tokens = TokenRepresentation(words.group, tensors["tokens"])
    action = TokenAction(words, tokens, tokens.on_logits(), rows["moved"], rows["left_out"], rows["pieces"], relaxed)
    aggregator = make_lm_aggregator(method, backbone, loss, decode, look_ahead, pad)
    if method == "lambda_equitune":
        give_weights(aggregator, tensors, _LAMBDA, folder)
    return model_class(backbone, action, aggregator).eval()


_LAMBDA = "lambda"
_AGAIN = "copy the folder again"


def _checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of the files that decide what a backbone answers."""
    files = [*sorted(folder.glob("*.safetensors")), folder / "config.json"]
    found = {}
    for path in files:
        if path.is_file():
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _words(content: dict[str, Any]) -> WordGroup:
    equality, general = (tuple(map(tuple, content[kind])) for kind in ("equality", "general"))
    return WordGroup(content["name"], tuple(content["members"]), equality, general, content["source"])


def _method_of(model: Any) -> str:
    """Return the method that makes a model's aggregator again.

    Raises:
        ValueError: An aggregator of the user's own.
    """
    aggregator: Aggregator = model.aggregator
    if type(aggregator) is Mean:
        return "equitune"
    if type(aggregator) is LookAhead:
        return "equizero"
    usual = make_lm_aggregator("lambda_equitune", model.backbone)
    if type(aggregator) is Weighted and (aggregator.reads, aggregator.temperature) == ("features", 1.0):
        shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (aggregator, usual)]
        if shapes[0] == shapes[1]:
            return "lambda_equitune"
    raise ValueError(
        f"{type(aggregator).__name__} is an aggregator of your own, which from_pretrained could not make again; save "
        "the backbone (model.backbone.save_pretrained) and the aggregator's state_dict, and symmetrize again"
    )
