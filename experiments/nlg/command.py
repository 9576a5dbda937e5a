"""``equirl nlg``: text generation that treats groups of people alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from equirl.experiments.checks import check_output_file
from equirl.experiments.nlg.config import (
    AuditConfig,
    CompareConfig,
    GenerateConfig,
    ModelConfig,
    SpeedConfig,
    TrainRegardConfig,
)
from equirl.experiments.nlg.readiness import check_ready
from equirl.experiments.study import Report, Stage, Study, run_study
from equirl.experiments.subcommands import Commands, run_subcommand, table_as_it_comes, write_csv
from equirl.files import written_whole

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
    commands: Commands = {
        "generate": (GenerateConfig, _with_models(_generate)),
        "audit": (AuditConfig, _with_models(_audit)),
        "compare": (CompareConfig, _compare),
        "words": (ModelConfig, _with_models(_words)),
        "speed": (SpeedConfig, _with_models(_speed)),
        "train-regard": (TrainRegardConfig, _train_regard),
    }
    return run_subcommand("equirl nlg", _HELP, commands, arguments)


def _with_models(run: Callable[[Any], int]) -> Callable[[Any], int]:
    """Return a command that first checks what it needs: packages, files, and places to write to."""

    def checked(config: Any) -> int:
        check_ready(config)
        return run(config)

    return checked


def _generate(config: GenerateConfig) -> int:
    from equirl.experiments.nlg.study import SAMPLE_COLUMNS, sample_rows
    from equirl.experiments.nlg.texts import Prompt
    from equirl.experiments.nlg.workbench import Workbench

    settings: dict[str, Any] = {"top_k": config.top_k}
    if config.num_beams > 1:
        settings = {"do_sample": False, "num_beams": config.num_beams, "top_k": None}
    rows: list[dict[str, Any]] = []
    for group in config.group:
        bench = Workbench(config, group)
        if config.text:
            bench.prompts = [Prompt("own", None, text) for text in config.text]
        _warn(bench, config.method)
        for method in config.method:
            found = sample_rows(bench, method, config.samples, config.max_new_tokens, settings, progress=True)
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
    from equirl.experiments.nlg.audit import AUDIT_COLUMNS, audit_rows
    from equirl.experiments.nlg.report import summarise_audit
    from equirl.experiments.nlg.workbench import Workbench

    rows: list[Sequence[Any]] = []
    for group in config.group:
        bench = Workbench(config, group)
        _warn(bench, config.method)
        rows += audit_rows(bench, config.method, config.max_new_tokens, progress=True)
    table = pd.DataFrame(rows, columns=list(AUDIT_COLUMNS))
    print(summarise_audit(table))
    write_csv(table, config.csv)
    return 0


def _compare(config: CompareConfig) -> int:
    def stages(config: CompareConfig) -> Sequence[Stage[Any]]:
        from equirl.experiments.nlg.study import compare_stages

        return compare_stages(config)

    def report(config: CompareConfig) -> Report:
        from equirl.experiments.nlg.report import report_compare

        return report_compare(config.out)

    return run_study(Study(stages, report, check_ready, table="samples.csv"), config)


def _words(config: ModelConfig) -> int:
    from equirl.experiments.nlg.workbench import Workbench

    for group in config.group:
        bench = Workbench(config, group)
        action = bench.action()
        print(action.report())
        print("moved: " + ", ".join("/".join(row) for row in action.moved))
        print(f"source: {bench.words.source}\n")
    return 0


def _speed(config: SpeedConfig) -> int:
    from equirl.experiments.nlg.speed import SPEED_COLUMNS, speed_rows
    from equirl.experiments.nlg.workbench import Workbench

    rows = (row for group in config.group for row in speed_rows(Workbench(config, group), config))
    write_csv(table_as_it_comes(SPEED_COLUMNS, rows), config.csv)
    return 0


def _train_regard(config: TrainRegardConfig) -> int:
    from equirl.experiments.nlg.regard import OWN_SENTENCES, train_regard

    check_output_file(config.out, "--out")
    if config.out.suffix != ".json":
        raise ValueError(f"--out {config.out} must end in .json, by which --regard knows a classifier's file")
    classifier = train_regard(config.data or OWN_SENTENCES)
    classifier.save(config.out)
    print(f"accuracy {classifier.accuracy:.3f} (5-fold cross-validation); written to {config.out}")
    return 0


def _warn(bench: Any, methods: Sequence[str]) -> None:
    for text in bench.uncovered(methods):
        print(
            f"equirl nlg: {text!r} has words of the group {bench.words.name} that are no single tokens, or stand "
            "without a space before; they do not move (`equirl nlg words` lists them)",
            file=sys.stderr,
        )
