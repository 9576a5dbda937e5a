"""SCAN's splits, exactly, and the official text files: one command a line, ``IN: jump twice OUT: I_JUMP I_JUMP``."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

from equirl.experiments.scan.grammar import all_commands, interpret
from equirl.files import written_whole
from equirl.names import unknown_name_message

__all__ = [
    *("SPLITS", "Example", "Split", "SplitName"),
    *("differences", "file_names", "make_split", "read_split", "write_splits"),
]


@dataclass(frozen=True)
class Example:
    """A command and the actions it stands for, both as words separated by spaces."""

    command: str
    actions: str

    def has(self, phrase: str) -> bool:
        """Return whether the command contains some words in a row."""
        return f" {phrase} " in f" {self.command} "


@dataclass(frozen=True)
class Split:
    """Examples to train on, some of them many times, and examples to test on."""

    name: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]


_LONGEST_TRAINED = 22
_SIMPLE_TRAINED = 16_728
_ALONE = {"addprim_jump": ("jump", 1467), "addprim_turn_left": ("turn left", 2189)}

SplitName = Literal["simple", "addprim_jump", "addprim_turn_left", "template_around_right", "length"]

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
"""Names of the splits, as in the official file names."""


@lru_cache(maxsize=1)
def _every_example() -> tuple[Example, ...]:
    return tuple(Example(command, interpret(command)) for command in all_commands())


def make_split(name: str, seed: int = 0) -> Split:
    """Return a split, made from the grammar.

    ``simple``: random. ``addprim_jump`` and ``addprim_turn_left``: every command but those that combine ``jump``
    (``turn left``) with something trains, and the bare one stands 1,467 (2,189) times. ``template_around_right``: tests
    what contains ``around right``; what contains ``turn around right`` is in neither part. ``length``: up to 22
    actions train.

    Args:
        name: One of ``SPLITS``.
        seed: Seed of the order of the training examples, and of the random split.

    Raises:
        ValueError: Unknown name; the message lists the known ones.
    """
    if name not in SPLITS:
        raise ValueError(unknown_name_message("split", name, SPLITS))
    examples = list(_every_example())
    numbers = random.Random(seed)
    if name == "simple":
        numbers.shuffle(examples)
        return Split(name, tuple(examples[:_SIMPLE_TRAINED]), tuple(examples[_SIMPLE_TRAINED:]))
    if name == "length":
        train = [example for example in examples if len(example.actions.split()) <= _LONGEST_TRAINED]
        test = [example for example in examples if len(example.actions.split()) > _LONGEST_TRAINED]
    elif name == "template_around_right":
        train = [example for example in examples if not example.has("around right")]
        test = [example for example in examples if example.has("around right") and not example.has("turn around right")]
    else:
        alone, times = _ALONE[name]
        train = [example for example in examples if not example.has(alone)]
        train += [Example(alone, interpret(alone))] * times
        test = [example for example in examples if example.has(alone) and example.command != alone]
    numbers.shuffle(train)
    return Split(name, tuple(train), tuple(test))


def file_names(name: str) -> tuple[str, str]:
    """Return the official names of a split's training and test file."""
    return f"tasks_train_{name}.txt", f"tasks_test_{name}.txt"


def write_splits(folder: Path, names: Sequence[str] = SPLITS, seed: int = 0) -> list[Path]:
    """Write splits in the official text format under the official file names, and return the files."""
    written = []
    for name in names:
        split = make_split(name, seed)
        for file_name, examples in zip(file_names(name), (split.train, split.test), strict=True):
            with written_whole(folder / file_name) as temporary:
                lines = (f"IN: {example.command} OUT: {example.actions}\n" for example in examples)
                temporary.write_text("".join(lines), encoding="utf-8")
            written.append(folder / file_name)
    return written


def read_split(folder: Path, name: str) -> Split:
    """Return a split read from the official text files in a folder.

    Raises:
        FileNotFoundError: A file is not there; the message says how to write one.
        ValueError: A line that is not in the format, or whose actions are not what its command means; the message names
            file and line.
    """
    return Split(name, *(_read(folder / file_name) for file_name in file_names(name)))


def differences(split: Split, reference: Split) -> list[str]:
    """Return what a split's parts lack or have too much of, compared with another's: a line each; none: the same.

    The order does not count. A random split differs by nature, and is compared in size only.
    """
    found = []
    for part in ("train", "test"):
        ours, theirs = Counter(getattr(split, part)), Counter(getattr(reference, part))
        if split.name == "simple":
            if ours.total() != theirs.total():
                found.append(f"{part}: {ours.total():,} examples, not {theirs.total():,}")
            continue
        for what, extra in (("missing", theirs - ours), ("not in the split", ours - theirs)):
            if extra:
                example, times = extra.most_common(1)[0]
                found.append(f"{part}: {extra.total():,} {what}, such as {example.command!r} ({times} times)")
    return found


def _read(path: Path) -> tuple[Example, ...]:
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; `equirl scan data --out {path.parent}` writes all splits")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file in UTF-8: {error}") from error
    if not lines:
        raise ValueError(f"{path} is empty; `equirl scan data --out {path.parent}` writes all splits")
    examples = []
    for number, line in enumerate(lines, start=1):
        command, separator, actions = line.removeprefix("IN: ").partition(" OUT: ")
        if not line.startswith("IN: ") or not separator:
            raise ValueError(f"{path}, line {number}: expected 'IN: command OUT: ACTIONS', got {line[:80]!r}")
        try:
            expected = interpret(command)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
        if actions.split() != expected.split():
            raise ValueError(f"{path}, line {number}: {command!r} stands for {expected!r}, the file says {actions!r}")
        examples.append(Example(command, expected))
    return tuple(examples)
