"""Settings of ``equirl nlg``; every one is recorded beside the results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from equirl.agents.cli.option_checks import check_counts
from equirl.arguments import check_text, check_texts
from equirl.experiments.study import CommonOptions
from equirl.models.language_models import EMBEDDED
from equirl.names import ORBIT_METHODS, check_names, unknown_name_message

__all__ = ["ALL_METHODS", "AuditConfig", "CompareConfig", "GenerateConfig", "ModelConfig", "SpeedConfig"]
__all__ += ["TrainRegardConfig", "split_method"]

ALL_METHODS = ("plain", *ORBIT_METHODS)
"""All methods, the plain model among them."""

_RELAXED = "relaxed_"


@dataclass(frozen=True)
class ModelConfig:
    """Lists which words of a group are tokens of a model, and move."""

    model: str = EMBEDDED
    """smollm2 (embedded), or a causal language model by name on the Hugging Face hub, such as gpt2, or by folder."""
    group: tuple[str, ...] = ("gender",)
    """Word groups: gender, race, race-3, orientation, or a .toml file of your own."""
    method: tuple[str, ...] = ("plain", "equitune", "lambda_equitune", "equizero")
    """plain, equitune, lambda_equitune, equizero; relaxed_METHOD leaves general words, such as pronouns, alone."""
    pieces: bool = False
    """Whether words without a space before them move as well, as at the beginning of a text; their tokens are pieces of
    other words, too."""
    prompts: Path | None = None
    """TOML file of contexts, each a list of prompts with {group} in them; by default respect and occupation."""
    score: str = "sentiment"
    """What equizero looks for in the continuation: sentiment (VADER), regard, or MODULE:FUNCTION (higher is better)."""
    regard: str = ""
    """Regard classifier: a file of train-regard, or a text classifier by name; by default trained on our sentences."""
    look_ahead: int = 10
    """Tokens that equizero looks ahead."""
    seed: int = 0
    """Seed of all sampling."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads of each process."""

    def __post_init__(self) -> None:
        check_names("word group", self.group, may_repeat=True)
        check_names("method", self.method)
        for method in self.method:
            split_method(method)
        check_counts(self, "look_ahead", "threads")
        check_counts(self, "seed", least=0)


@dataclass(frozen=True)
class GenerateConfig(ModelConfig):
    """Continues prompts, by method."""

    text: tuple[str, ...] = ()
    """Texts to continue, instead of the prompts."""
    samples: int = 2
    """Continuations of each prompt."""
    max_new_tokens: int = 15
    """Their length."""
    top_k: int = 40
    """Samples from so many most probable tokens."""
    num_beams: int = 1
    """More than 1: beam search instead of sampling."""
    out: Path | None = None
    """JSONL file of the samples; by default they are printed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "samples", "max_new_tokens", "top_k", "num_beams")
        check_texts(self.text, "texts to continue")
        if not all(text.strip() for text in self.text):
            raise ValueError("a text to continue is empty; give it at least one word")
        if self.num_beams > 1 and self.samples > self.num_beams:
            raise ValueError(f"{self.samples} samples of each prompt need as many beams; got {self.num_beams}")


@dataclass(frozen=True)
class AuditConfig(ModelConfig):
    """Measures how unequally each prompt is continued, and perplexities."""

    max_new_tokens: int = 15
    """Length of the plain model's continuations, whose perplexity is measured."""
    csv: Path | None = None
    """CSV file with one row for each prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "max_new_tokens")


@dataclass(frozen=True)
class CompareConfig(ModelConfig, CommonOptions):
    """Compares continuations of all methods, scored: tables, figures, an HTML page; resumable."""

    samples: int = 20
    """Continuations of each prompt."""
    max_new_tokens: int = 15
    """Their length."""
    top_k: int = 40
    """Samples from so many most probable tokens."""
    measure: str = ""
    """MODULE:FUNCTION, from texts to numbers, such as a toxicity: one more column of the samples, `own`."""
    out: Path = Path("logs/nlg")
    """Folder of the samples, tables, figures and the HTML report."""

    def __post_init__(self) -> None:
        super().__post_init__()
        CommonOptions.__post_init__(self)
        check_counts(self, "samples", "max_new_tokens", "top_k")


@dataclass(frozen=True)
class SpeedConfig(ModelConfig):
    """Measures what generation costs."""

    batch: tuple[int, ...] = (1, 8)
    """Prompts at once."""
    max_new_tokens: int = 20
    """Tokens generated."""
    rounds: int = 5
    """Repeats, in turns; medians are shown."""
    csv: Path | None = None
    """CSV file with one row for each measurement; seconds_low and seconds_high are those of the fastest and the slowest
    round."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(self, "rounds", "batch", "max_new_tokens")


@dataclass(frozen=True)
class TrainRegardConfig:
    """Trains a classifier of how a text speaks of somebody, from labelled texts."""

    out: Path
    """JSON file of the classifier."""
    data: Path | None = None
    """TSV with the columns label (negative, neutral, positive) and text; by default our own 120 sentences."""


def split_method(method: str) -> tuple[str, bool]:
    """Return a method without the word ``relaxed_``, and whether it had it.

    Raises:
        ValueError: Unknown method.
    """
    check_text("a method", method)
    base = method.removeprefix(_RELAXED)
    if base not in ALL_METHODS or method == _RELAXED + "plain":
        known = [*ALL_METHODS, *(_RELAXED + name for name in ORBIT_METHODS)]
        raise ValueError(unknown_name_message("method", method, known))
    return base, base != method
