"""Files without pickle: tensors as safetensors and settings as JSON, which hold each other's checksums.

Reading them runs no code. A file that was damaged, cut or exchanged for another one is told by its checksum.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from equirl.files import written_whole

__all__ = [
    *("AllocationBudget", "checksum_of_bytes", "checksum_of_tensors", "read_bytes", "read_json", "read_tensors"),
    *("write_json", "write_tensors"),
]

LARGEST_JSON = 16 << 20
"""Bytes of the largest settings that are read; Python takes many times as much memory for them."""


def checksum_of_bytes(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def checksum_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, kinds and shapes, in whatever order they are given."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(f"{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], **metadata: str) -> None:
    """Write tensors as safetensors, whole or not at all.

    Args:
        path: The file.
        tensors: The tensors; those that share memory are written once each.
        **metadata: Texts for the header.
    """
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(safetensors.torch.save(copies, {"format": "pt", **metadata}))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file, and the texts of its header.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no safetensors file, or a part of it is missing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy the folder again, with all its files")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            return found, dict(file.metadata() or {})
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{path} is no safetensors file, or is damaged ({error}); copy it again") from error


def write_json(path: Path, content: Mapping[str, Any]) -> str:
    """Write settings as JSON, whole or not at all, and return the checksum of the file.

    Raises:
        ValueError: They are longer than ``read_json`` reads.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    encoded = text.encode()
    if len(encoded) > LARGEST_JSON:
        raise ValueError(f"{path} would have {len(encoded):,} bytes; settings of at most {LARGEST_JSON:,} are read")
    with written_whole(path) as temporary:
        temporary.write_bytes(encoded)
    return checksum_of_bytes(encoded)


def read_bytes(path: Path, most: int = LARGEST_JSON) -> bytes:
    """Return the content of a small file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is larger, or cannot be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; copy the folder again, with all its files")
    try:
        if (size := path.stat().st_size) > most:
            raise ValueError(f"{path} has {size:,} bytes, where at most {most:,} are due; copy it again")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}); copy it again") from error


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Return the settings of a JSON file, and the checksum of the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no JSON object, or too large.
    """
    encoded = read_bytes(path)
    try:
        content = json.loads(encoded.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no JSON ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, where a JSON object is due; copy it again")
    return content, checksum_of_bytes(encoded)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_FACTORIES = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
_LEAST = 16384  # bytes that count for even the smallest tensor, as for the module around it


class AllocationBudget(TorchFunctionMode):
    """Inside it, torch makes new tensors only as long as all of them together keep within a budget.

    Settings from a file say how large a network is; a number that was changed would otherwise take all memory before
    anything shows that the weights do not fit.

    Args:
        most: Bytes of all tensors made inside.
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.left = most

    @classmethod
    def for_weights(cls, n_bytes: int) -> AllocationBudget:
        """Return the budget for building a network whose weights, with those of target networks, take ``n_bytes``."""
        return cls(8 * n_bytes + (64 << 20))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count what the functions that make tensors will take, before they do.

        Raises:
            ValueError: It is more than is left.
        """
        given = dict(kwargs or {})
        if func in _FACTORIES:
            self.left -= _bytes_of(func, args, given)
            if self.left < 0:
                raise ValueError(f"the settings ask for a network that is many times larger than its weights ({_SAFE})")
        return func(*args, **given)


_SAFE = "nothing was allocated for it"


def _bytes_of(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    size = kwargs.get("size", args[0] if args else ())
    if function is not torch.full and args and isinstance(size, int):
        size = [each for each in args if isinstance(each, int)]
    sizes = [int(side) for side in size] if isinstance(size, (tuple, list)) else [int(size)]
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    return max(math.prod(sizes) * dtype.itemsize, _LEAST)
