"""Options of ``equirl vision``, and the variants of the methods that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from equirl.agents.cli.option_checks import check_counts, check_positive
from equirl.experiments.study import StudyOptions
from equirl.models.image_lambda import LAMBDA_NETWORKS
from equirl.models.image_zero_shot import TEMPLATES, check_templates
from equirl.models.images import LEVELS, PROXY_LOSSES, READS, parts_of
from equirl.names import ORBIT_METHODS, check_names
from equirl.optional import own_function
from equirl.rotations import IMAGE_GROUPS

__all__ = ["DataConfig", "FinetuneConfig", "SpeedConfig", "StudyConfig", "Variant", "VisionConfig", "ZeroShotConfig"]
__all__ += ["proxy_loss_of", "variants_of"]


@dataclass(frozen=True)
class VisionConfig(StudyOptions):
    """Options of both studies of images."""

    seeds: int = 1
    """Number of seeds, 0 .. seeds - 1, for all training."""
    data: str = "mnist"
    """digits, mnist, fashion-mnist, cifar10:FOLDER, cifar100:FOLDER, folder:FOLDER, imagenetv2:FOLDER, hub:NAME,
    torchvision:NAME:FOLDER (`equirl vision data` says more)."""
    model: str = ""
    """Name of the network."""
    method: tuple[str, ...] = ("plain", "equitune", "equizero", "lambda_equitune")
    """plain, equitune, equizero, lambda_equitune; with --report-only, the methods to show."""
    group: tuple[str, ...] = ("c4",)
    """c4 (quarter turns), d4 (and mirrors), flip (the mirror alone), c8, c16 (finer turns, interpolated)."""
    level: tuple[str, ...] = ("output",)
    """Place where the views are combined: output (logits) or maps (feature maps, moved back; CLIP: image vectors)."""
    proxy_loss: tuple[str, ...] = ("similarity",)
    """Proxy loss of equizero: similarity (the largest logit), confidence, entropy, or MODULE:FUNCTION, which gives each
    view of an orbit (its features and outputs) a number; lower is better."""
    lambda_network: tuple[str, ...] = ("two-layer",)
    """Network of λ-equitune: linear, two-layer, attention (over the orbit)."""
    reads: tuple[str, ...] = ("features",)
    """Input of λ for a view: features, or inputs (the image, shrunk)."""
    labels: tuple[int, ...] = (1000,)
    """Numbers of labelled images from which λ, or the whole network, learns; each is a variant."""
    test_images: int = 1000
    """Number of images on which accuracies are measured; 0: all there are."""
    any_angle: bool = False
    """Whether to measure images turned by any angle from 0 to 360 degrees as well."""
    invert: bool = False
    """Whether the network sees negatives, which suits white drawings on black."""
    on_corrupt: str = "refuse"
    """A file that is no image is an error (refuse), or is named and left out (skip)."""
    cache: Path | None = None
    """Folder of the features; by default `equirl/features` in the user's cache."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_variants(self, ("plain", *ORBIT_METHODS))
        check_names("proxy loss", self.proxy_loss, may_repeat=True, plural="proxy losses")
        check_names("λ-network", self.lambda_network, LAMBDA_NETWORKS, may_repeat=True)
        check_names("thing for λ to read", self.reads, READS, may_repeat=True, plural="things for λ to read")
        check_names("way with corrupt images", (self.on_corrupt,), ("refuse", "skip"))
        check_counts(self, "labels")
        check_counts(self, "test_images", least=0)


@dataclass(frozen=True)
class ZeroShotConfig(VisionConfig):
    """Classifies images by the names of the classes."""

    model: str = "bridge"
    """bridge (embedded: EfficientNet-Lite0 to MiniLM), clip:NAME (of transformers, a name or a folder),
    open_clip:NAME/WEIGHTS, open_clip:hf-hub:NAME."""
    class_names: Path | None = None
    """File with the name of one class in each line; by default the data's own names."""
    templates: tuple[str, ...] = TEMPLATES
    """Texts with {} for a class name; their vectors are averaged."""
    centre_images: int = 1000
    """Number of images whose mean feature is the origin of the bridge; their labels are not used."""
    out: Path = Path("logs/vision/zero_shot")
    """Folder of tables, figures and TensorBoard's files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "centre_images")
        check_templates(self.templates)


@dataclass(frozen=True)
class FinetuneConfig(VisionConfig):
    """Makes a pretrained network symmetric, and trains λ or the whole network."""

    model: str = "efficientnet-lite0"
    """efficientnet-lite0 (embedded), small-cnn (trained here, upright, in a minute), timm:NAME, torchvision:NAME."""
    head_images: int = 2000
    """Number of upright labelled images that first train the new last layer, or the small CNN."""
    pretrain_steps: int = 1500
    """Gradient steps of the small CNN."""
    whole_steps: int = 0
    """Gradient steps of the whole network through each method, after λ; 0: the network stays as it is."""
    learning_rate: float = 3e-4
    """Learning rate of the whole network's training."""
    batch_size: int = 64
    """Images in a batch."""
    accumulate: int = 1
    """Batches in a gradient step."""
    mixed_precision: str = "no"
    """Precision of training: no, fp16 or bf16."""
    out: Path = Path("logs/vision/finetune")
    """Folder of tables, figures, networks and TensorBoard's files."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "head_images", "pretrain_steps", "batch_size", "accumulate")
        check_counts(self, "whole_steps", least=0)
        check_positive(self, "learning_rate")
        check_names("mixed precision", (self.mixed_precision,), ("no", "fp16", "bf16"))


StudyConfig = ZeroShotConfig | FinetuneConfig


@dataclass(frozen=True)
class DataConfig:
    """Lists the known sets of images."""


@dataclass(frozen=True)
class SpeedConfig:
    """Measures time and peak memory of each method beside the plain network."""

    model: str = "efficientnet-lite0"
    """efficientnet-lite0, small-cnn, timm:NAME or torchvision:NAME."""
    method: tuple[str, ...] = ("equitune", "equizero", "lambda_equitune")
    """equitune, equizero, lambda_equitune."""
    group: tuple[str, ...] = ("c4", "d4", "c8")
    """c4, d4, flip, c8, c16."""
    level: tuple[str, ...] = LEVELS
    """output, maps."""
    batch: tuple[int, ...] = (1, 16)
    """Batch sizes."""
    rounds: int = 5
    """Rounds, in each of which every method has its turn; medians are shown."""
    csv: Path | None = None
    """CSV file with one row for each measurement; the record goes beside it."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        _check_variants(self, ORBIT_METHODS)
        check_counts(self, "rounds", "batch", "threads")


def _check_variants(settings: VisionConfig | SpeedConfig, methods: Sequence[str]) -> None:
    check_names("method", settings.method, methods, may_repeat=True)
    check_names("group of images", settings.group, IMAGE_GROUPS, may_repeat=True, plural="groups of images")
    check_names("level", settings.level, LEVELS, may_repeat=True)


class Variant(NamedTuple):
    """One way to make a classifier symmetric, and the part of it that is trained.

    Attributes:
        method: ``"plain"`` or one of ``ORBIT_METHODS``.
        group: One of ``IMAGE_GROUPS``.
        level: ``"output"`` or ``"maps"``; ``"-"`` for the plain one.
        kind: Proxy loss or λ-network; ``"-"`` for other methods.
        reads: Input of λ; ``"-"`` for other methods.
        trained: ``"nothing"``, ``"lambda"``, or ``"whole"``, after λ.
        labels: Number of labelled images that train it.
    """

    method: str
    group: str
    level: str = "-"
    kind: str = "-"
    reads: str = "-"
    trained: str = "nothing"
    labels: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """The features of each view that it needs; see ``parts_of``."""
        return parts_of(self.level, self.reads)

    @property
    def name(self) -> str:
        """A name that no other variant has, for files."""
        return "-".join(map(str, self)).replace(":", ".")


def variants_of(config: VisionConfig) -> list[Variant]:
    """Return the variants of a study, in the order of its tables."""
    found = []
    whole = isinstance(config, FinetuneConfig) and config.whole_steps > 0
    for group, method in product(config.group, config.method):
        learned = method == "lambda_equitune"
        levels = ("-",) if method == "plain" else config.level
        kinds = {"equizero": config.proxy_loss, "lambda_equitune": config.lambda_network}.get(method, ("-",))
        trained = [("lambda", n) for n in config.labels] if learned else [("nothing", 0)]
        trained += [("whole", n) for n in config.labels] if whole else []
        for how, level, kind, reads in product(trained, levels, kinds, config.reads if learned else ("-",)):
            found.append(Variant(method, group, level, kind, reads, *how))
    return list(dict.fromkeys(found))


def proxy_loss_of(name: str) -> str | Callable[[Any], Any]:
    """Return a proxy loss by name, or the user's own by ``"MODULE:FUNCTION"``.

    Raises:
        ValueError: An unknown name, or a function that cannot be imported.
    """
    return name if name in PROXY_LOSSES else own_function("proxy loss", name, PROXY_LOSSES)
