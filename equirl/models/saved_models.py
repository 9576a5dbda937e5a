"""Models in folders without pickle: settings as ``model.json``, weights and tables as ``model.safetensors``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from equirl.aggregators import Aggregator, Mean, Select
from equirl.files import DAMAGED, written_whole
from equirl.groups import FiniteGroup
from equirl.proxy_losses import ProxyLoss
from equirl.safe_files import checksum_of_tensors, read_json, read_tensors, write_json, write_tensors
from equirl.tokens import TokenRepresentation

__all__ = ["give_weights", "group_as_data", "read_group", "read_model", "usual_aggregator", "weights_of", "write_model"]

SETTINGS, WEIGHTS = "model.json", "model.safetensors"
_FORMAT = 1


def write_model(folder: Path, kind: str, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a model's folder, whole or not at all.

    Args:
        folder: The folder; it is made.
        kind: Name of the model's class.
        about: Settings, as JSON holds them.
        tensors: Weights and tables.

    Raises:
        ValueError: The folder holds something else.
    """
    others = [path for path in folder.glob("[!.]*") if path.name not in (SETTINGS, WEIGHTS)]
    if folder.is_file() or (others and not (folder / SETTINGS).is_file()):
        raise ValueError(f"{folder} holds something else than a model (no {SETTINGS} in it); name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).unlink(missing_ok=True)  # removed first and written last: where it is, all is
    content = {"format": _FORMAT, "kind": kind, **about, "checksum": checksum_of_tensors(tensors)}
    with written_whole(folder / SETTINGS) as temporary:
        checksum = write_json(temporary, content)
        write_tensors(folder / WEIGHTS, tensors, **{SETTINGS: checksum})


def read_model(folder: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what ``write_model`` wrote.

    Args:
        folder: The folder.
        kind: Name of the model's class.

    Raises:
        FileNotFoundError: There is no model in the folder.
        ValueError: Its files are damaged, or it is of another kind; the message names the file.
    """
    if not (folder / SETTINGS).is_file():
        raise FileNotFoundError(f"{folder} holds no {kind} ({SETTINGS} is not there); its save_pretrained writes one")
    about, checksum = read_json(folder / SETTINGS)
    if (about.get("format"), about.get("kind")) != (_FORMAT, kind):
        raise ValueError(
            f"{folder / SETTINGS} holds {about.get('kind')!r} in the format {about.get('format')!r}, where {kind!r} in "
            f"the format {_FORMAT} is due"
        )
    tensors, header = read_tensors(folder / WEIGHTS)
    if header.get(SETTINGS) != checksum or checksum_of_tensors(tensors) != about.get("checksum"):
        raise ValueError(
            f"{folder / WEIGHTS} does not match its checksum, or does not belong to this {SETTINGS}; copy the folder "
            "again"
        )
    return about, tensors


def weights_of(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Return the weights of a network, a prefix before their names."""
    return {f"{prefix}.{name}": value for name, value in network.state_dict().items()}


def give_weights(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str, folder: Path) -> None:
    """Give a network the weights that ``weights_of`` returned of one like it.

    Raises:
        ValueError: They are of another network; the message names the folder.
    """
    found = {name.removeprefix(f"{prefix}."): x for name, x in tensors.items() if name.startswith(f"{prefix}.")}
    try:
        network.load_state_dict(found)
    except DAMAGED as error:
        raise ValueError(f"{folder / WEIGHTS} holds the {prefix} of another network ({error})") from error


def usual_aggregator(
    aggregator: Aggregator, known: Mapping[str, ProxyLoss]
) -> tuple[dict[str, Any], Aggregator] | None:
    """Return equitune or equizero as data, and the same made again; ``None`` for others.

    Args:
        aggregator: The aggregator.
        known: Proxy losses by name.

    Raises:
        ValueError: Equizero with a proxy loss of the user's own.
    """
    if type(aggregator) is Mean:
        return {"method": "equitune"}, Mean()
    if type(aggregator) is not Select:
        return None
    name = next((name for name, each in known.items() if each is aggregator.proxy_loss), None)
    if name is None:
        raise ValueError(
            f"the proxy loss {aggregator.proxy_loss!r} is a function of your own, which a folder without code cannot "
            f"hold; those that can be saved: {', '.join(known)}"
        )
    settings = {"gradient": aggregator.gradient, "tie_tolerance": aggregator.tie_tolerance}
    return {"method": "equizero", "proxy_loss": name, **settings}, aggregator


def group_as_data(
    representations: Mapping[str, TokenRepresentation],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return a group and how it moves values, as JSON and tensors.

    Args:
        representations: The representations of the group, by name.
    """
    group = next(iter(representations.values())).group
    about = {"group": group.name, "elements": list(group.element_names)}
    about["generators"] = [group.element_names[g] for g in group.generators]
    tables = {f"table.{name}": rep.table for name, rep in representations.items()}
    return about, {"cayley": group.cayley, **tables}


def read_group(
    about: Mapping[str, Any], tensors: Mapping[str, Tensor], names: tuple[str, ...]
) -> dict[str, TokenRepresentation]:
    """Return the representations that ``group_as_data`` was given.

    Args:
        about: The JSON.
        tensors: The tensors.
        names: Names of the representations.

    Raises:
        LookupError: Something is missing.
        TypeError: Something is of another kind.
        ValueError: The tables are not those of a group.
    """
    group = FiniteGroup(about["group"], about["elements"], tensors["cayley"], generators=about["generators"] or None)
    return {name: TokenRepresentation(group, tensors[f"table.{name}"]) for name in names}
