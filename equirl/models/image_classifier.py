"""An image classifier in two parts, feature maps and head, so that a group can act on either."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.testing import evaluation_mode

__all__ = ["Classifier", "check_labels", "invert"]


class Classifier(nn.Module):
    """A network ``images -> maps -> logits``.

    Args:
        features: ``[N, 3, S, S] -> [N, C, h, h]``; images have values from 0 to 1.
        head: ``[N, C, h, h] -> [N, F]``: pools the maps by a mean over places, so that turning them changes nothing.
        classifier: ``[N, F] -> [N, K]``.
        size: Rows and columns of an image.
        mean: Mean of each channel, subtracted from the images first.
        std: Deviation of each channel; the images are divided by it then.

    Raises:
        ValueError: Not a mean and a deviation for each channel, a deviation of 0, or a size below 1.
    """

    mean: Tensor
    std: Tensor

    made_by: dict[str, Any] | None = None
    """Name and number of classes with which ``load_backbone`` made it; ``None`` for others."""

    def __init__(
        self,
        features: nn.Module,
        head: nn.Module,
        classifier: nn.Module,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        whole_number(size, "size", 1)
        if len(mean) != len(std) or not all(map(math.isfinite, (*mean, *std))) or 0 in std:
            raise ValueError(f"each channel needs a mean and a deviation other than 0; got {list(mean)}, {list(std)}")
        self.feature_maps = features
        self.head = head
        self.classifier = classifier
        self.size = size
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def maps(self, images: Tensor) -> Tensor:
        """Return feature maps, ``[N, C, h, h]``."""
        return cast(Tensor, self.feature_maps((images - self.mean) / self.std))

    def pooled(self, maps: Tensor) -> Tensor:
        """Return what the classifier reads, ``[N, F]``."""
        return cast(Tensor, self.head(maps).flatten(1))

    def logits_of_maps(self, maps: Tensor) -> Tensor:
        """Return logits of feature maps, ``[N, K]``."""
        return cast(Tensor, self.classifier(self.pooled(maps)))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of images, ``[N, K]``."""
        return self.logits_of_maps(self.maps(images))

    @torch.no_grad()
    def pooled_length(self) -> int:
        """Return ``F``, the length of the pooled features."""
        blank = torch.zeros(1, 3, self.size, self.size, device=self.mean.device)
        with evaluation_mode(self):
            return self.pooled(self.maps(blank)).shape[1]


def invert(classifier: Classifier) -> Classifier:
    """Make a classifier see negatives, images ``1 - x``, and return it; this suits white drawings on black."""
    classifier.mean.copy_(1 - classifier.mean)
    classifier.std.neg_()
    return classifier


def check_labels(labels: Any, n_images: int, n_classes: int) -> None:
    """Check labels: one whole number for each image, from 0 to the number of classes minus 1.

    Args:
        labels: The labels, an array or a tensor.
        n_images: Number of images.
        n_classes: Number of classes.

    Raises:
        ValueError: Another number of labels, labels that are not whole numbers, or labels out of range.
    """
    try:
        found = torch.as_tensor(labels)
    except (TypeError, ValueError) as error:  # texts, or rows of different lengths
        raise ValueError(f"labels are whole numbers, from 0 on; got {str(labels)[:60]}") from error
    if found.shape != (n_images,):
        raise ValueError(f"each of the {n_images} images needs one label; got labels of the shape {list(found.shape)}")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"labels are whole numbers, from 0 on; got {found.dtype}")
    wrong = found[(found < 0) | (found >= n_classes)]
    if len(wrong):
        raise ValueError(f"labels of {n_classes} classes go from 0 to {n_classes - 1}; got {int(wrong[0])}")
