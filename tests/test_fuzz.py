"""A small part of the fuzzer, and its own tests; ``python tests/fuzz --inputs 10000`` runs it long."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from fuzz.agent_folder_targets import agent_folder_targets
from fuzz.command_lines import run_line
from fuzz.command_targets import command_targets
from fuzz.core_targets import core_targets
from fuzz.file_targets import file_targets
from fuzz.nonsense import count, name, one_of, real
from fuzz.oracle import Expect
from fuzz.runner import FAMILIES, Fuzzer, main
from fuzz.symmetry_file_targets import symmetry_file_targets
from fuzz.target import Target, target, try_call

import equirl
from equirl.constructions import direct_sum

INPUTS = {"core": 260, "envs": 160, "agents": 140, "experiments": 120, "files": 75, "commands": 70}
"""Inputs of each family; the families take turns by their number."""


@pytest.fixture(scope="module")
def fuzzer() -> Iterator[Fuzzer]:
    made = Fuzzer()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _random_numbers() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_malformed_inputs_are_refused_or_have_a_meaning(family: str, fuzzer: Fuzzer) -> None:
    alone = fuzzer.of(family)
    found = [(number, trial.finding) for number, trial in alone.inputs(0, INPUTS[family]) if trial.finding is not None]
    assert not found, "\n".join(f"--family {family} --only {number}: {finding}" for number, finding in found)


@pytest.mark.parametrize("family", ["core", "envs", "agents", "experiments"])
def test_valid_calls_are_accepted(family: str, fuzzer: Fuzzer) -> None:
    for each in fuzzer.made(family):
        assert isinstance(each, Target)
        if each.name != "audit_agent":  # takes seconds, and has tests of its own
            each.call(**each.valid())


def test_good_files_are_read(tmp_path: Path) -> None:
    for number, each in enumerate([*file_targets(), *symmetry_file_targets(), *agent_folder_targets()]):
        folder = tmp_path / str(number)
        for file, content in each.files().items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(content)
        each.read(folder)


WORKING = ("envs", "train", "enjoy", "check", "check, a view", "symmetrize", "plot")


@pytest.mark.parametrize("command", WORKING)
def test_command_lines_work_before_they_are_spoilt(command: str, fuzzer: Fuzzer, tmp_path: Path) -> None:
    (line,) = (each.line for each in command_targets() if each.name == command)
    folder = fuzzer.copied_folder(tmp_path / "work")
    status, output, errors, raised = run_line(line, folder)
    assert raised is None
    assert status in (0, 1), output[-1000:] + errors


def _judged(call: Any, **given: Any) -> list[str]:
    """Return the complaints about a function of one number."""
    calls = target("it", call, {"n": 3}, {"n": given["argument"]})
    trials = [try_call(calls, Random(number)) for number in range(60)]
    return [trial.finding.complaint for trial in trials if trial.finding is not None]


def test_the_judge_knows_silence_other_peoples_words_and_nameless_errors() -> None:
    def refuse_without_a_name(n: Any) -> None:
        direct_sum()

    assert any("accepted without a word" in complaint for complaint in _judged(lambda n: n, argument=count()))
    assert any("own words" in complaint for complaint in _judged(lambda n: range(n), argument=real()))
    assert any("neither the value" in complaint for complaint in _judged(refuse_without_a_name, argument=count()))
    assert any("wrong class" in complaint for complaint in _judged(lambda n: {}[n], argument=name(["a"])))
    assert _judged(equirl.cyclic_group, argument=count()) == []


def test_the_judge_sees_arguments_that_are_changed() -> None:
    def change(n: list[int]) -> None:
        n.append(1)

    complaints = _judged(change, argument=one_of([([1], Expect.EITHER, "a list")]))
    assert complaints[0].startswith("the argument was changed")


def test_an_input_follows_from_its_number_and_the_seed() -> None:
    first, again = (Fuzzer(seed, ("core",)) for seed in (3, 3))
    trials = [first.input(number) for number in range(40)]
    assert trials[17:] == [again.input(number) for number in range(17, 40)]
    assert trials != [Fuzzer(4, ("core",)).input(number) for number in range(40)]
    assert len({trial.target for trial in trials}) > len(core_targets()) / 2


def test_the_long_run_prints_a_table_and_writes_a_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "inputs.csv"
    assert main(["--inputs", "30", "--family", "core", "--csv", str(file)]) == 0
    assert "refused" in capsys.readouterr().out
    with file.open(newline="") as rows:
        assert [row["number"] for row in csv.DictReader(rows)] == [str(number) for number in range(30)]
    assert main(["--only", "7", "--family", "core"]) == 0
    assert "None" in capsys.readouterr().out
