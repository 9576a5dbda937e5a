"""Image classifiers in two parts, feature maps and head, so that a group can act on either."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.experiments.extras import VISION, needed
from equirl.experiments.vision import efficientnet
from equirl.experiments.vision.labelled_images import check_labels
from equirl.models.image_classifier import Classifier
from equirl.names import unknown_name_message
from equirl.seeded import seeded

__all__ = ["MODELS", "LinearHead", "SmallCNN", "inverted", "load_backbone", "preprocess", "trunk_digest"]

MODELS = ("small-cnn", "efficientnet-lite0", "timm:NAME", "torchvision:NAME")

_HALF = [0.5] * 3
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def trunk_digest(classifier: Classifier) -> str:
    """Return a digest of all layers and weights but the last layer's, and of the preprocessing."""
    total = hashlib.sha256(
        f"{classifier.size} {classifier.mean.flatten().tolist()} {classifier.std.flatten().tolist()}".encode()
    )
    for part in (classifier.feature_maps, classifier.head):
        total.update(re.sub(r" at 0x\w+", "", repr(part)).encode())  # layers without weights, too
        for name, value in part.state_dict().items():
            total.update(name.encode())
            total.update(value.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:16]


class LinearHead(nn.Linear):
    """The last layer, ``[N, F] -> [N, K]``, fitted by logistic regression on features of a frozen network."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit to features ``[N, F]`` and integer labels ``[N]``, standardised first, with scikit-learn's solver.

        Raises:
            ValueError: Another number of labels than of features, a label out of range, or labels of one class alone.
        """
        check_labels(labels, len(features), self.out_features)
        if len(np.unique(labels)) < 2:
            raise ValueError("a last layer is fitted on images of at least two classes; all labels are the same here")
        linear_model = needed("sklearn.linear_model", VISION)
        mean, std = features.mean(axis=0), features.std(axis=0) + 1e-6
        model = linear_model.LogisticRegression(C=0.05, max_iter=300)
        model.fit((features - mean) / std, labels)
        weights = torch.zeros(self.out_features, self.in_features)
        bias = torch.full((self.out_features,), -1e3)  # of classes that were not there
        rows = model.classes_.astype(int)
        coefficients, intercept = model.coef_, model.intercept_
        if len(rows) == 2:  # scikit-learn gives one row for two classes
            coefficients, intercept = (
                np.stack([-coefficients[0], coefficients[0]]) / 2,
                np.array([-1, 1]) * intercept / 2,
            )
        weights[rows] = torch.tensor(coefficients / std, dtype=torch.float32)
        bias[rows] = torch.tensor(intercept - (coefficients / std) @ mean, dtype=torch.float32)
        self.weight.data, self.bias.data = weights.to(self.weight), bias.to(self.bias)


class SmallCNN(nn.Module):
    """Four convolutions, ``[N, 3, 32, 32] -> [N, 64, 8, 8]``: an ordinary network, trained here in a minute."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, width, pool in ((3, 32, True), (32, 64, True), (64, 64, False), (64, 64, False)):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pool else []
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return feature maps."""
        return cast(Tensor, self.layers(images))


def load_backbone(name: str, classes: int, seed: int = 0) -> Classifier:
    """Return a network by name; its last layer is new, with one logit for each class.

    Args:
        name: ``"small-cnn"`` (not trained yet), ``"efficientnet-lite0"`` (trained on ImageNet, embedded),
            ``"timm:NAME"`` or ``"torchvision:NAME"`` with pretrained weights, where these packages are installed:
            what comes before the mean over places.
        classes: Number of classes.
        seed: Of new weights.

    Raises:
        ValueError: An unknown name, or no classes.
        ModuleNotFoundError: A package is not installed; the message says what to type.
    """
    whole_number(classes, "classes", 1)
    with seeded(seed):
        return _backbone(name, classes)


def _backbone(name: str, classes: int) -> Classifier:
    kind, _, which = name.partition(":")
    if name == "small-cnn":
        return Classifier(SmallCNN(), nn.AdaptiveAvgPool2d(1), LinearHead(64, classes), 32, _HALF, _HALF)
    if name == "efficientnet-lite0":
        maps, pool, last = efficientnet.load_efficientnet()
        new = LinearHead(last.in_features, classes)
        return Classifier(maps, pool, new, efficientnet.SIZE, efficientnet.MEAN, efficientnet.STD)
    if kind == "timm" and which:
        return _timm(which, classes)
    if kind == "torchvision" and which:
        return _torchvision(which, classes)
    raise ValueError(unknown_name_message("model", name, MODELS))


def _timm(which: str, classes: int) -> Classifier:
    timm = needed("timm", "timm")
    try:
        network: Any = timm.create_model(which, pretrained=True, num_classes=0, global_pool="")
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"timm cannot make {which!r} with its weights: {error}") from error
    told = timm.data.resolve_model_data_config(network)
    return _of_maps(network, f"timm:{which}", classes, told["input_size"][-1], told["mean"], told["std"])


def _torchvision(which: str, classes: int) -> Classifier:
    try:
        network = needed("torchvision", "torchvision").models.get_model(which, weights="DEFAULT")
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"torchvision cannot make {which!r} with its weights: {error}") from error
    children = list(network.children())
    pools = [at for at, child in enumerate(children) if isinstance(child, nn.AdaptiveAvgPool2d)]
    if not pools:
        raise ValueError(f"torchvision:{which} has no average over places after its feature maps; take a CNN")
    return _of_maps(nn.Sequential(*children[: pools[0]]), f"torchvision:{which}", classes, 224, *_IMAGENET)


def _of_maps(
    maps: nn.Module, name: str, classes: int, size: int, mean: Sequence[float], std: Sequence[float]
) -> Classifier:
    """Return a classifier of the mean over the places of feature maps, with a new last layer."""
    with torch.no_grad():
        shape = maps.eval()(torch.zeros(1, 3, size, size)).shape
    if len(shape) != 4 or shape[2] != shape[3]:
        raise ValueError(f"{name} makes no feature maps [N, C, h, h] but {list(shape)}; take a CNN")
    return Classifier(maps, nn.AdaptiveAvgPool2d(1), LinearHead(shape[1], classes), size, mean, std)


def inverted(classifier: Classifier) -> Classifier:
    """Make the classifier one of negatives, images ``1 - x``, and return it; suits white drawings on black."""
    classifier.mean.copy_(1 - classifier.mean)
    classifier.std.neg_()
    return classifier


def preprocess(pixels: np.ndarray, size: int) -> Tensor:
    """Return an image as a network takes it: the shorter side scaled to ``size``, the centre of the longer one.

    Args:
        pixels: ``uint8 [H, W, 3]``.
        size: Rows and columns of the result.

    Returns:
        Floats from 0 to 1, ``[3, size, size]``.

    Raises:
        ValueError: Pixels of another kind or shape.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"an image is bytes [H, W, 3]; got {pixels.dtype} {list(pixels.shape)}")
    whole_number(size, "size", 1)
    image_module = needed("PIL.Image", "pillow")
    height, width = pixels.shape[:2]
    scale = size / min(height, width)
    image = image_module.fromarray(pixels)
    if scale != 1:
        image = image.resize((round(width * scale), round(height * scale)), image_module.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    cut = np.asarray(image)[top : top + size, left : left + size]
    return torch.tensor(cut, dtype=torch.float32).permute(2, 0, 1) / 255
