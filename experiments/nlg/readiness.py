"""What a command of ``equirl nlg`` needs, checked before a model is loaded and before hours of work."""

from __future__ import annotations

from equirl.experiments.checks import check_device, check_output_file, check_output_folder
from equirl.experiments.nlg.config import CompareConfig, ModelConfig, split_method
from equirl.experiments.nlg.regard import load_regard
from equirl.experiments.nlg.scores import make_score, own_score, sentiment
from equirl.experiments.nlg.texts import make_prompts
from equirl.experiments.optional import NLG, needed
from equirl.models.word_groups import load_word_group

__all__ = ["check_ready"]


def check_ready(config: ModelConfig) -> None:
    """Check packages, word lists, prompts, scores, the device, and the places to write to.

    Raises:
        ValueError: One of them cannot be used.
        FileNotFoundError: A file is not there.
        ModuleNotFoundError: A package is not installed; the message says what to type.
    """
    needed("transformers", NLG)
    check_device(config.device)
    if isinstance(config, CompareConfig):
        check_output_folder(config.out)
    else:
        check_output_file(getattr(config, "csv", None), "--csv")
        check_output_file(getattr(config, "out", None), "--out")
    groups = [load_word_group(group) for group in config.group]
    for words in groups:
        make_prompts(words, config.prompts)
        if [other.name for other in groups].count(words.name) > 1:
            raise ValueError(
                f"two word groups are called {words.name!r}, and would be taken for one; name each once, or rename one "
                "of the files"
            )
    if any(split_method(method)[0] == "equizero" for method in config.method):
        _check_score(config)
    if isinstance(config, CompareConfig):
        if config.measure:
            own_score(config.measure)
        sentiment()
        load_regard(config.regard)


def _check_score(config: ModelConfig) -> None:
    """Check a score by name; what it takes seconds to load is loaded by the commands that need it."""
    if config.score == "sentiment":
        sentiment()
    elif config.score == "regard":
        if config.regard:
            load_regard(config.regard)
    else:
        make_score(config.score, load_word_group(config.group[0]))
