"""Last layers of zero-shot image classifiers: they compare images with the text vectors of class names."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Bridge", "CosineHead"]

_BRIDGE_SCALE = 20.0


class CosineHead(nn.Module):
    """Cosine similarities with the text vectors of classes, times a scale, ``[..., D] -> [..., K]``.

    Args:
        texts: One vector for each class, ``[K, D]``.
        scale: Factor of the logits.
    """

    texts: Tensor

    def __init__(self, texts: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("texts", nn.functional.normalize(texts, dim=-1))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return self.scale * nn.functional.normalize(features, dim=-1) @ self.texts.T


class Bridge(nn.Module):
    """Image features mapped to text vectors by ridge regression, then cosine similarities, ``[..., F] -> [..., K]``.

    A row of an image classifier's last layer is the direction of its class among image features. The map is fitted
    from these rows to the text vectors of the classes' names, so it sees no pair of image and text. It is no CLIP.

    ``A = argmin sum_i |A (r_i - mean r) - (t_i - mean t)|^2 + a |A|^2``, where ``a`` is the mean eigenvalue of the
    rows' scatter.

    Args:
        rows: Weights of the classifier's last layer, ``[N, F]``.
        row_texts: Text vectors of the names of its classes, ``[N, D]``.
        texts: Text vectors of the new classes, ``[K, D]``.
    """

    ridge: Tensor
    mean: Tensor

    def __init__(self, rows: np.ndarray, row_texts: np.ndarray, texts: np.ndarray) -> None:
        super().__init__()
        rows = rows - rows.mean(axis=0)
        text_mean = row_texts.mean(axis=0)
        scatter = rows.T @ rows
        penalty = np.trace(scatter) / len(scatter) * np.eye(len(scatter))
        ridge = np.linalg.solve(scatter + penalty, rows.T @ (row_texts - text_mean))
        self.register_buffer("ridge", torch.tensor(ridge, dtype=torch.float32))
        self.register_buffer("mean", torch.zeros(rows.shape[1]))
        self.similarity = CosineHead(torch.tensor(texts - text_mean, dtype=torch.float32), _BRIDGE_SCALE)

    def centre(self, features: np.ndarray) -> None:
        """Take the mean of some images' features, ``[N, F]``, for the origin; labels are not needed."""
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return cast(Tensor, self.similarity((features - self.mean) @ self.ridge))
