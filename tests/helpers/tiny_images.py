"""Small networks and images for the tests of `equirl vision`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from equirl.experiments.vision.image_sets import ImageSet
from equirl.experiments.vision.training import train_images
from equirl.models.image_classifier import Classifier
from equirl.models.image_heads import LinearHead


def tiny_classifier(size: int = 8, classes: int = 4, width: int = 6, seed: int = 0) -> Classifier:
    """An ordinary CNN with random weights, not symmetric in any way."""
    torch.manual_seed(seed)
    maps = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.Tanh(), nn.Conv2d(width, width, 3, stride=2, padding=1))
    head = nn.Sequential(nn.Conv2d(width, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    classifier = Classifier(maps, head, LinearHead(5, classes), size, [0.4, 0.5, 0.6], [0.5, 0.25, 0.5])
    for parameter in classifier.parameters():
        parameter.data *= 3  # apart from each other
    return classifier.eval()


def train_tiny(model: nn.Module, steps: int, resume: Path | None = None, **options: Any) -> None:
    """Train a network on 64 images of random pixels."""
    images = torch.rand(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(64) % 4
    given = {"learning_rate": 1e-2, "batch_size": 8, "resume": resume, **options}
    train_images(model, images.__getitem__, labels, 0, steps, **given)


def made_images(n: int, size: int = 8, classes: int = 4, seed: int = 0) -> ImageSet:
    """Random pixels with random labels, made when read."""
    labels = np.random.default_rng(seed).integers(classes, size=n)

    def read(row: int) -> np.ndarray:
        return np.random.default_rng([seed, row]).integers(256, size=(size, size, 3)).astype(np.uint8)

    return ImageSet("made", labels, tuple("abcdefghij"[:classes]), read, f"made {n} {size} {seed}")


def save_tiny_clip(folder: Path) -> Path:
    """Write a CLIP of random weights with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[END]", "a", "photo", "picture", "of", "the", "cropped", "."]
    words += ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    vocabulary = {word: at for at, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "projection_dim": 8,
    }
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 16, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**small, "image_size": 16, "patch_size": 4}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    return folder
