"""Last layers of image classifiers: fitted to labels, or made of the text vectors of class names."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.models.image_classifier import check_labels
from equirl.optional import VISION, needed

__all__ = ["Bridge", "CosineHead", "LinearHead"]

_BRIDGE_SCALE = 20.0


class LinearHead(nn.Linear):
    """The last layer, ``[N, F] -> [N, K]``, fitted by logistic regression on features of a frozen network."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit to features ``[N, F]``, standardised first, and integer labels ``[N]``, with scikit-learn's solver.

        Raises:
            ValueError: Another number of labels than of features, a label out of range, or labels of a single class.
        """
        check_labels(labels, len(features), self.out_features)
        if len(np.unique(labels)) < 2:
            raise ValueError("a last layer is fitted on images of at least two classes; all labels are the same here")
        linear_model = needed("sklearn.linear_model", VISION)
        mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
        model = linear_model.LogisticRegression(C=0.05, max_iter=300)
        model.fit((features - mean) / std, labels)
        weights = torch.zeros(self.out_features, self.in_features)
        bias = torch.full((self.out_features,), -1e3)  # for classes that have no image
        coefficients, intercept = model.coef_, model.intercept_
        if len(intercept) == 1:  # scikit-learn gives one row for two classes
            coefficients, intercept = (np.concatenate([-found, found]) / 2 for found in (coefficients, intercept))
        weights[model.classes_] = torch.tensor(coefficients / std, dtype=torch.float32)
        bias[model.classes_] = torch.tensor(intercept - (coefficients / std) @ mean, dtype=torch.float32)
        self.weight.data, self.bias.data = weights.to(self.weight), bias.to(self.bias)


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
