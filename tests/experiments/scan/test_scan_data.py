from pathlib import Path

import pytest

from equirl.experiments.scan.grammar import ACTIONS, WORDS, all_commands, interpret
from equirl.experiments.scan.splits import (
    SPLITS,
    Example,
    Split,
    differences,
    file_names,
    make_split,
    read_split,
    write_splits,
)

W, L, R, J, TL, TR = "I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT"

MEANINGS = {
    "walk": [W],
    "look": [L],
    "run": [R],
    "jump": [J],
    "turn left": [TL],
    "turn right": [TR],
    "jump left": [TL, J],
    "jump right": [TR, J],
    "walk left": [TL, W],
    "look right": [TR, L],
    "turn opposite left": [TL, TL],
    "turn opposite right": [TR, TR],
    "jump opposite left": [TL, TL, J],
    "run opposite right": [TR, TR, R],
    "turn around left": [TL] * 4,
    "turn around right": [TR] * 4,
    "jump around left": [TL, J] * 4,
    "look around right": [TR, L] * 4,
    "walk twice": [W, W],
    "jump thrice": [J, J, J],
    "turn left twice": [TL, TL],
    "turn right thrice": [TR, TR, TR],
    "run left twice": [TL, R, TL, R],
    "look opposite right thrice": [TR, TR, L] * 3,
    "turn opposite left twice": [TL] * 4,
    "turn around right thrice": [TR] * 12,
    "walk around left twice": [TL, W] * 8,
    "jump and walk": [J, W],
    "jump after walk": [W, J],
    "jump twice and walk thrice": [J, J, W, W, W],
    "jump twice after walk thrice": [W, W, W, J, J],
    "turn left and jump": [TL, J],
    "turn left after jump": [J, TL],
    "run right and look left": [TR, R, TL, L],
    "run right after look left": [TL, L, TR, R],
    "walk opposite left and turn right": [TL, TL, W, TR],
    "turn opposite right after run twice": [R, R, TR, TR],
    "jump around right and turn around left": [TR, J] * 4 + [TL] * 4,
    "turn around left after jump around right": [TR, J] * 4 + [TL] * 4,
    "look thrice and run opposite left twice": [L, L, L] + [TL, TL, R] * 2,
    "walk and walk": [W, W],
    "jump around left thrice after jump around right thrice": [TR, J] * 12 + [TL, J] * 12,
}


def test_what_commands_mean() -> None:
    assert len(MEANINGS) >= 40
    for command, actions in MEANINGS.items():
        assert interpret(command).split() == actions, command


def test_the_grammar_has_every_command_once() -> None:
    commands = list(all_commands())
    assert len(commands) == len(set(commands)) == 20_910
    assert {word for command in commands for word in command.split()} == set(WORDS)
    lengths = [len(interpret(command).split()) for command in commands]
    assert (min(lengths), max(lengths)) == (1, 48)
    assert {action for command in commands[:500] for action in interpret(command).split()} <= set(ACTIONS)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("hop twice", "word 'hop' is unknown"),
        ("twice", "no phrase of SCAN's grammar"),
        ("turn", "no phrase of SCAN's grammar"),
        ("walk opposite", "no phrase of SCAN's grammar"),
        ("walk left opposite", "no phrase of SCAN's grammar"),
        ("walk and run and jump", "no phrase of SCAN's grammar"),
    ],
)
def test_what_is_no_command_is_refused(command: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interpret(command)


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("simple", 16_728, 4_182),
        ("addprim_jump", 14_670, 7_706),
        ("addprim_turn_left", 21_890, 1_208),
        ("template_around_right", 15_225, 4_476),
        ("length", 16_990, 3_920),
    ],
)
def test_splits_have_the_published_sizes_and_are_disjoint(name: str, train: int, test: int) -> None:
    split = make_split(name)
    assert (len(split.train), len(split.test)) == (train, test)
    assert not {e.command for e in split.train} & {e.command for e in split.test}
    assert len(set(split.test)) == test


def test_what_the_splits_hold_out() -> None:
    jump = [example.command for example in make_split("addprim_jump").train if "jump" in example.command]
    assert jump == ["jump"] * 1467
    left = [example.command for example in make_split("addprim_turn_left").train if "turn left" in example.command]
    assert left == ["turn left"] * 2189
    around = make_split("template_around_right")
    left_out = {c for c in all_commands()} - {e.command for e in around.train + around.test}
    assert len(left_out) == 1209
    assert all("turn around right" in command for command in left_out)
    assert max(len(example.actions.split()) for example in make_split("length").train) == 22


def test_text_files_are_read_as_they_were_written(tmp_path: Path) -> None:
    files = write_splits(tmp_path)
    assert [path.name for path in files] == [name for split in SPLITS for name in file_names(split)]
    assert "tasks_train_addprim_jump.txt" in {path.name for path in files}
    for name in SPLITS:
        assert read_split(tmp_path, name) == make_split(name)
    line = (tmp_path / "tasks_test_addprim_jump.txt").read_text().splitlines()[0]
    assert line == "IN: jump twice OUT: I_JUMP I_JUMP"


def test_what_differs_from_the_split_is_said() -> None:
    split = make_split("length")
    assert differences(split, split) == []
    assert differences(Split("length", split.train[::-1], split.test), split) == []  # the order does not count
    moved = Split("length", split.train[1:], (*split.test, Example("walk", "I_WALK")))
    missing, extra = differences(moved, split)
    assert missing.startswith("train: 1 missing, such as")
    assert extra == "test: 1 not in the split, such as 'walk' (1 times)"
    assert differences(make_split("simple", 1), make_split("simple", 0)) == []
    short = Split("simple", split.train[:5], make_split("simple").test)
    assert differences(short, make_split("simple")) == ["train: 5 examples, not 16,728"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("IN: walk OUT: I_RUN", "line 2: 'walk' stands for 'I_WALK', the file says 'I_RUN'"),
        ("walk -> I_WALK", "line 2: expected 'IN: command OUT: ACTIONS'"),
        ("IN: hop OUT: I_WALK", "line 2: command 'hop': word 'hop' is unknown"),
    ],
)
def test_an_altered_file_is_refused_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    write_splits(tmp_path, ["length"])
    path = tmp_path / "tasks_test_length.txt"
    lines = path.read_text().splitlines()
    lines[1] = line
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=message):
        read_split(tmp_path, "length")


def test_files_that_are_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="equirl scan data --out"):
        read_split(tmp_path, "length")
    write_splits(tmp_path, ["length"])
    (tmp_path / "tasks_train_length.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a text file"):
        read_split(tmp_path, "length")


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="split 'add_jump' is unknown"):
        make_split("add_jump")


def test_what_no_view_of_a_training_command_has() -> None:
    """The commands that are left zero-shot; experiments/README.md counts them."""
    jump = make_split("addprim_jump").test
    assert sum({"jump", "run"} <= set(example.command.split()) for example in jump) == 1_764
    around = make_split("template_around_right").test
    assert sum("around left" in example.command for example in around) == 720
    assert round(100 * (1 - 720 / len(around)), 1) == 83.9
