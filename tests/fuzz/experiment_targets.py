"""Targets among the experiments: settings of every study, word groups, symmetries by name, rotations, grammars."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from random import Random
from typing import Any

import torch

from equirl import agents, optional
from equirl.agents.cli import option_checks as checks
from equirl.agents.intervals import return_interval
from equirl.experiments.cost.command import BenchOptions
from equirl.experiments.nlg.config import AuditConfig, CompareConfig, GenerateConfig, ModelConfig, split_method
from equirl.experiments.rl.control import ControlOptions
from equirl.experiments.rl.gridworld import GridWorldOptions, parse_agent
from equirl.experiments.rl.minigrid import MinigridOptions
from equirl.experiments.rl.zero_shot import ZeroShotOptions
from equirl.experiments.scan.config import ScanConfig
from equirl.experiments.scan.grammar import interpret
from equirl.experiments.scan.models import CELLS, NAMED_SYMMETRIES, make_model, make_symmetry
from equirl.experiments.scan.splits import SPLITS, make_split
from equirl.experiments.vision.config import FinetuneConfig, ZeroShotConfig
from equirl.experiments.vision.config import SpeedConfig as ImageSpeedConfig
from equirl.experiments.vision.image_sets import load_images
from equirl.models.image_classifier import check_labels
from equirl.models.image_lambda import LAMBDA_NETWORKS, make_lambda
from equirl.models.images import make_image_aggregator
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.word_groups import WordGroup, load_word_group, named_word_groups
from equirl.names import ORBIT_METHODS as IMAGE_METHODS
from equirl.rotations import IMAGE_GROUPS, InterpolatedRotations, image_action, rotate
from fuzz.nonsense import Argument, batch, count, name, one_of, real, shape, vector
from fuzz.oracle import Expect, Nonsense
from fuzz.target import Target, target

__all__ = ["experiment_targets"]

_CONFIGS: dict[str, type[Any]] = {
    "GridWorldOptions": GridWorldOptions,
    "MinigridOptions": MinigridOptions,
    "ZeroShotOptions": ZeroShotOptions,
    "ControlOptions": ControlOptions,
    "BenchOptions": BenchOptions,
    "ScanConfig": ScanConfig,
    "GenerateConfig": GenerateConfig,
    "AuditConfig": AuditConfig,
    "CompareConfig": CompareConfig,
    "ZeroShotConfig of images": ZeroShotConfig,
    "FinetuneConfig": FinetuneConfig,
    "SpeedConfig of images": ImageSpeedConfig,
}
_FROM_ZERO = ("seed", "test_images", "whole_steps")
_NAMES = ("on_corrupt", "mixed_precision")
_LATER = ("model", "data", "measure", "regard", "cluster", "device", "proxy_loss", "agents", "text", "templates")
"""Settings that are names of the user's own, and are looked at when the command begins."""


def experiment_targets() -> list[Target]:
    """Return the targets among the experiments."""
    return [*_configs(), *_words(), *_sequences(), *_images(), *_names()]


def _configs() -> list[Target]:
    found = []
    for label, config in _CONFIGS.items():
        arguments = {}
        for field in dataclasses.fields(config):
            default = None if field.default is dataclasses.MISSING else field.default
            argument = _setting(field.name, default, str(field.type))
            later = issubclass(config, ModelConfig) and field.name == "group"  # a name, or a file of the user's
            if argument is not None and not later:
                arguments[field.name] = argument
        found.append(target(label, config, {}, arguments))
    return found


def _setting(label: str, default: Any, annotation: str) -> Argument | None:
    """Return how one setting of a study is malformed, by its type; ``None`` where it is only looked at later."""
    words = (
        label.replace("_", " ").rstrip("s"),
        "word group",
        "group of images",
        "thing for λ",
        "λ-network",
        "way with",
    )
    if label in _LATER or isinstance(default, (bool, Path)) or annotation.startswith("Path"):
        return None
    if annotation in ("int", "int | None"):
        least = 0 if label in _FROM_ZERO else 2 if label == "size" else 1
        return count(least, *words, nullable="None" in annotation)
    if annotation == "float":
        return real(*words, low=0, open_low=label != "min_seconds")
    if annotation.startswith("tuple[int") and default:
        return vector(list(default), *words)
    if isinstance(default, tuple) and default and isinstance(default[0], str):
        return _names_of(list(default), *words)
    return name([default], *words) if label in _NAMES and isinstance(default, str) else None


def _names_of(known: list[str], *words: str) -> Argument:
    """Return a tuple of names, malformed."""
    single = name(known, *words)
    texts = vector(known, *words, numbers=False)

    def draw(random: Random) -> Nonsense:
        if random.random() < 0.5:
            return texts.draw(random)
        while isinstance((drawn := single.draw(random)).value, (list, tuple, dict)):
            pass
        return Nonsense((drawn.value,), drawn.expect, drawn.label) if isinstance(drawn.value, str) else drawn

    return Argument(draw, words)


def _words() -> list[Target]:
    rows: list[tuple[Any, Expect, str]] = [
        ("he she", Expect.REFUSED, "text"),
        (("he", "she"), Expect.REFUSED, "texts for rows"),
        ((("he",),), Expect.REFUSED, "a word too few"),
        ((("he", "she", "it"),), Expect.REFUSED, "a word too many"),
        ((("he", "he"),), Expect.REFUSED, "a word twice"),
        ((("he", "she"), ("she", "it")), Expect.REFUSED, "a word in two rows"),
        ((("he", ""),), Expect.REFUSED, "an empty word"),
        ((("he", "s he"),), Expect.REFUSED, "two words"),
        ((("he", 3),), Expect.REFUSED, "a number"),
        ((("he", None),), Expect.REFUSED, "None"),
        (5, Expect.REFUSED, "no rows"),
        (None, Expect.REFUSED, "None"),
        ({"he": "she"}, Expect.REFUSED, "dict"),
        ((), Expect.EITHER, "no rows"),
        ([["he", "she"]], Expect.EITHER, "lists"),
        ((("He", "she"),), Expect.EITHER, "capitals"),
    ]
    group = load_word_group("gender")
    return [
        target(
            "WordGroup",
            WordGroup,
            {"name": "own", "members": ("man", "woman"), "equality": (("he", "she"),), "general": ()},
            {
                "members": vector(["man", "woman"], "member", numbers=False),
                "equality": one_of(rows, "own"),
                "general": one_of(rows, "own"),
            },
        ),
        target("WordGroup.swap", group.swap, {"element": 1, "text": "he"}, {"element": count(0, most=1)}),
        target(
            "load_word_group", load_word_group, {"name": "gender"}, {"name": name(named_word_groups(), "word group")}
        ),
        target(
            "split_method", split_method, {"method": "equitune"}, {"method": name(["equitune", "relaxed_equizero"])}
        ),
    ]


def _sequences() -> list[Target]:
    symmetries = [*NAMED_SYMMETRIES, "cyclic:jump,run", "cyclic:jump,run*cyclic:left,right"]
    return [
        target(
            "make_symmetry of SCAN", make_symmetry, {"name": "jump-run"}, {"name": name(symmetries, "symmetry", "word")}
        ),
        target(
            "make_sequence_aggregator",
            make_sequence_aggregator,
            {"method": "equizero", "vocabulary": 20, "proxy_loss": "entropy"},
            {
                "method": name(["equitune", "equizero", "lambda_equitune"], "method"),
                "proxy_loss": name(["entropy", "confidence"], "proxy loss"),
            },
        ),
        target(
            "make_model of SCAN",
            make_model,
            {"cell": "lstm", "hidden": 8, "dropout": 0.1},
            {"cell": name([*CELLS, "transformer"]), "hidden": count(), "dropout": real(low=0, high=1)},
        ),
        target(
            "interpret",
            interpret,
            {"command": "jump twice"},
            {"command": name(["jump twice", "turn left"], "word", "command", others=True)},
        ),
        target("make_split", make_split, {"name": "addprim_jump", "seed": 0}, {"name": name(SPLITS, "split")}),
    ]


def _images() -> list[Target]:
    labels: list[tuple[Any, Expect, str]] = [
        ([0, 1, 3], Expect.REFUSED, "out of range"),
        ([0, 1, -1], Expect.REFUSED, "negative"),
        ([0, 1], Expect.REFUSED, "too few"),
        ([0.0, 1.0, 0.5], Expect.REFUSED, "fractional"),
        ([[0], [1], [2]], Expect.REFUSED, "an axis too many"),
        (["a", "b", "c"], Expect.REFUSED, "text"),
        ([True, False, True], Expect.REFUSED, "bool"),
        (None, Expect.REFUSED, "None"),
        ([], Expect.REFUSED, "empty"),
        (torch.tensor([0, 1, 2]), Expect.EITHER, "a tensor"),
    ]
    image = {"images": batch(lambda: torch.rand(2, 3, 4, 4), "images")}
    return [
        target(
            "check_labels",
            check_labels,
            {"labels": [0, 1, 2], "n_images": 3, "n_classes": 3},
            {"labels": one_of(labels, "label")},
        ),
        target(
            "InterpolatedRotations",
            InterpolatedRotations,
            {"n": 8, "shape": (3, 4, 4)},
            {"n": count(1, "order", "multiples of 4"), "shape": shape((3, 4, 4), "square", "side")},
        ),
        target(
            "image_action",
            image_action,
            {"name": "c4", "shape": (3, 4, 4)},
            {"name": name(IMAGE_GROUPS, "group of images"), "shape": shape((3, 4, 4), "square", "side", "image")},
        ),
        target(
            "rotate",
            rotate,
            {"images": torch.rand(2, 3, 4, 4), "degrees": 30.0},
            {"degrees": real("angle"), **image},
            lambda result, given: None if result.shape == given["images"].shape else "another shape",
        ),
        target(
            "make_lambda",
            make_lambda,
            {"name": "linear", "inputs": 4},
            {"name": name(LAMBDA_NETWORKS, "λ-network"), "inputs": count()},
        ),
        target(
            "make_image_aggregator",
            lambda method: make_image_aggregator(method, 4),
            {"method": "equitune"},
            {"method": name(IMAGE_METHODS, "method")},
        ),
        target(
            "load_images",
            lambda name: load_images(name, "test"),
            {"name": "digits"},
            {
                "name": name(
                    ["digits", "folder:x", "cifar10:x", "hub:x", "torchvision:x:y"],
                    "set of images",
                    "not installed",
                    "images",
                    "data",
                )
            },
        ),
    ]


def _names() -> list[Target]:
    return [
        target(
            "parse_agent",
            parse_agent,
            {"name": "grid-c4/equizero+gradient=pick"},
            {
                "name": name(
                    ["plain", "grid-c4/equitune", "grid-d4/equizero+gradient=pick", "grid-c4/equitune+batch_size=8"],
                    "agent",
                    "symmetry",
                    "method",
                    "setting",
                    "gradient",
                )
            },
        ),
        target("check_device", checks.check_device, {"name": "cpu"}, {"name": name(["cpu", "cuda:99"], "device")}),
        target(
            "own_function",
            optional.own_function,
            {"kind": "score", "name": "math:sqrt"},
            {"name": name(["math:sqrt", "math:nothing", "os.path:join"], "score")},
            lambda found, _: None if callable(found) else "what was found cannot be called",
        ),
        target(
            "return_interval",
            return_interval,
            {"returns": [1.0, 0.0], "successes": [True, False]},
            {
                "returns": one_of([([], Expect.REFUSED, "empty")], "episode"),
                "successes": one_of([([True], Expect.REFUSED, "too few")], "episode"),
            },
        ),
        target(
            "policy_with, names",
            agents.policy_with,
            {"symmetry": "grid-c4", "method": "equitune"},
            {"method": name(["equitune"])},
        ),
    ]
