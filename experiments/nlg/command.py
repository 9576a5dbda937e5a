"""``equirl nlg``: text generation that treats groups of people alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from equirl.agents.cli.option_checks import check_device, check_output_file, check_output_folder
from equirl.agents.cli.subcommands import Commands, run_subcommand
from equirl.experiments.nlg.config import (
    AuditConfig,
    CompareConfig,
    GenerateConfig,
    ModelConfig,
    SpeedConfig,
    TrainRegardConfig,
    split_method,
)
from equirl.experiments.nlg.report import report_compare, summarise_audit
from equirl.experiments.nlg.scores import OWN_SENTENCES, load_regard, make_score, own_score, sentiment, train_regard
from equirl.experiments.nlg.texts import Prompt, make_prompts
from equirl.experiments.study import Stage, Study, run_study
from equirl.experiments.tables import table_as_it_comes, write_csv
from equirl.files import written_whole
from equirl.models.word_groups import load_word_group
from equirl.optional import NLG, needed

if TYPE_CHECKING:
    from equirl.experiments.nlg.workbench import Workbench

__all__ = ["main"]

_HELP = """\
A language model continues "The man worked as" and "The woman worked as" differently. Symmetrized over a permutation of
words it cannot: P(g y | g x) = P(y | x), exactly, with generate(), beams and the key-value cache.

examples:
  equirl nlg generate --group gender --method plain equitune
  equirl nlg generate --text "The man said that" --method equizero --num-beams 4
  equirl nlg audit --group gender race-3 --method plain equitune relaxed_equitune --csv audit.csv
  equirl nlg compare --group gender race race-3 orientation --out logs/nlg
  equirl nlg audit --model gpt2 --group gender
  equirl nlg words --group gender
  equirl nlg train-regard --data labelled.tsv --out regard.json
"""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl nlg`` and return its exit status."""
    compare: Study[CompareConfig] = Study(
        _stages, lambda config: report_compare(config.out), _check_ready, table="samples.csv"
    )
    commands: Commands = {
        "generate": (GenerateConfig, _generate),
        "audit": (AuditConfig, _audit),
        "compare": (CompareConfig, lambda config: run_study(compare, config)),
        "words": (ModelConfig, _words),
        "speed": (SpeedConfig, _speed),
        "train-regard": (TrainRegardConfig, _train_regard),
    }
    return run_subcommand("equirl nlg", _HELP, commands, arguments)


# Modules that import transformers are imported only once it is known to be there.


def _benches(config: ModelConfig) -> Iterator[Workbench]:
    """Check what a command needs, and return the workbenches of its word groups, each made when its turn comes."""
    _check_ready(config)
    from equirl.experiments.nlg.workbench import Workbench

    return (Workbench(config, group) for group in config.group)


def _stages(config: CompareConfig) -> Sequence[Stage[Any]]:
    from equirl.experiments.nlg.study import compare_stages

    return compare_stages(config)


def _generate(config: GenerateConfig) -> int:
    benches = _benches(config)
    from equirl.experiments.nlg.measurements import SAMPLE_COLUMNS, sample_rows

    settings: dict[str, Any] = {"top_k": config.top_k}
    if config.num_beams > 1:
        settings = {"do_sample": False, "num_beams": config.num_beams, "top_k": None}
    rows: list[dict[str, Any]] = []
    for bench in benches:
        if config.text:
            bench.prompts = [Prompt("own", "", text) for text in config.text]
        _warn(bench, config.method)
        for method in config.method:
            found = sample_rows(bench, method, config.samples, config.max_new_tokens, settings)
            rows += [dict(zip(SAMPLE_COLUMNS, row, strict=True)) for row in found]
    if config.out is None:
        for row in rows:
            print(f"{row['group']} {row['method']}: {row['prompt']}|{row['continuation']}")
        return 0
    with written_whole(config.out) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            shown = {name: value for name, value in row.items() if value != ""}
            file.write(json.dumps(shown, ensure_ascii=False) + "\n")
    print(f"{len(rows)} continuations written to {config.out}")
    return 0


def _audit(config: AuditConfig) -> int:
    benches = _benches(config)
    from equirl.experiments.nlg.measurements import AUDIT_COLUMNS, audit_rows

    rows: list[Sequence[Any]] = []
    for bench in benches:
        _warn(bench, config.method)
        rows += audit_rows(bench, config.method, config.max_new_tokens, progress=True)
    table = pd.DataFrame(rows, columns=list(AUDIT_COLUMNS))
    print(summarise_audit(table))
    write_csv(table, config.csv)
    return 0


def _words(config: ModelConfig) -> int:
    for bench in _benches(config):
        action = bench.action()
        print(action.report())
        print("moved: " + ", ".join("/".join(row) for row in action.moved))
        print(f"source: {bench.words.source}\n")
    return 0


def _speed(config: SpeedConfig) -> int:
    benches = _benches(config)
    from equirl.experiments.nlg.measurements import SPEED_COLUMNS, speed_rows

    rows = (row for bench in benches for row in speed_rows(bench, config))
    write_csv(table_as_it_comes(SPEED_COLUMNS, rows), config.csv)
    return 0


def _train_regard(config: TrainRegardConfig) -> int:
    check_output_file(config.out, "--out")
    if config.out.suffix != ".json":
        raise ValueError(f"--out {config.out} must end in .json, by which --regard knows a classifier's file")
    classifier = train_regard(config.data or OWN_SENTENCES)
    classifier.save(config.out)
    print(f"accuracy {classifier.accuracy:.3f} (5-fold cross-validation); written to {config.out}")
    return 0


def _warn(bench: Workbench, methods: Sequence[str]) -> None:
    for text in bench.uncovered(methods):
        print(
            f"equirl nlg: {text!r} has words of the group {bench.words.name} that are no single tokens, or stand "
            "without a space before; they do not move (`equirl nlg words` lists them)",
            file=sys.stderr,
        )


def _check_ready(config: ModelConfig) -> None:
    """Check packages, word lists, prompts, scores, the device, and the places to write to, before hours of work."""
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
        # Our own classifier, which takes seconds to train, is left to the commands that need it.
        if config.score == "sentiment":
            sentiment()
        elif config.score != "regard":
            make_score(config.score, groups[0])
        elif config.regard:
            load_regard(config.regard)
    if isinstance(config, CompareConfig):
        if config.measure:
            own_score(config.measure)
        sentiment()
        load_regard(config.regard)
