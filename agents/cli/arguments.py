"""Parsing of command lines: errors of one line, settings as KEY:VALUE, numbers in a range, devices, files."""

from __future__ import annotations

import argparse
import difflib
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    *("CommandParser", "StoreSettings", "add_environment_settings", "add_packages", "check_output", "device"),
    *("existing_agent", "existing_file", "new_file", "rate", "read_settings", "seconds", "whole", "without_option"),
]

_UNKNOWN = "unrecognized arguments: "
_WORD = re.compile(r"[^\s()\[\]{}'\"=,]+")
_WORDS = re.compile(r"[A-Za-z][\w.-]*( [\w.-]+)+")
_LITERALS = ("True", "False", "None")


class CommandParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` whose errors are one line, without the usage; the line suggests the nearest option.

    Args:
        *args: As for ``ArgumentParser``.
        other_options: Options that the command knows, too, but another parser reads; they are suggested as well.
        **kwargs: As for ``ArgumentParser``.
    """

    def __init__(self, *args: Any, other_options: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.other_options = tuple(other_options)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with status 2."""
        if message.startswith(_UNKNOWN):
            message = self._about_unknown(message.removeprefix(_UNKNOWN))
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def _about_unknown(self, words: str) -> str:
        options = [word.split("=")[0] for word in words.split() if word.startswith("-")]
        if not options:
            return f"{words!r} belongs to no option; {self.prog} --help shows how the command is used"
        known = [*self._option_string_actions, *self.other_options]
        nearest = difflib.get_close_matches(options[0], known, n=1)
        hint = f"Did you mean {nearest[0]}? " if nearest else ""
        return f"option {options[0]} is unknown. {hint}{self.prog} --help lists the options"


class StoreSettings(argparse.Action):
    """Read ``KEY:VALUE ...`` into a dictionary by ``read_settings``, in the place of rl_zoo3's ``StoreDict``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Store the dictionary.

        Raises:
            argparse.ArgumentError: What ``read_settings`` refuses.
        """
        try:
            setattr(namespace, self.dest, read_settings([values] if isinstance(values, str) else values or []))
        except ValueError as error:
            raise argparse.ArgumentError(self, str(error)) from error


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """Return the settings that ``KEY:VALUE ...`` gives; strings take no quotes of their own.

    A value is a Python expression, in which rl_zoo3's names (``nn``, ``th``, ``gym``, ...) are known. Words that do not
    evaluate (``goal:north-west``, ``mission:go to the door``), or a single one that names nothing but one of Python's
    or rl_zoo3's own objects (``color:all``), are a string.

    Raises:
        ValueError: No ``KEY:VALUE``, a key that is given twice, or a value that is neither an expression nor words.
    """
    settings: dict[str, Any] = {}
    for setting in texts:
        key, colon, text = str(setting).partition(":")
        if not (key and colon and text.strip()):
            raise ValueError(f"{setting!r} is not KEY:VALUE, such as size:9 or goal:north-west")
        if key in settings:
            raise ValueError(f"{key} is given twice, in {setting!r} for the second time")
        settings[key] = _value(key, text)
    return settings


def _value(key: str, text: str) -> Any:
    from rl_zoo3 import utils  # slow, so only when it is needed

    word = text.strip()
    if word.isidentifier() and word not in _LITERALS:
        return word
    try:
        return eval(word, dict(vars(utils)))
    except Exception as error:  # an expression may raise anything
        plain = _WORD.fullmatch(word) or _WORDS.fullmatch(word)
        if isinstance(error, (NameError, SyntaxError, AttributeError)) and plain:
            return word
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(
            f"the value of {key}:{text} is no Python expression ({type(error).__name__}: {reason}); a string with "
            f"brackets or quotes takes quotes of its own, such as \"{key}:'a (b)'\""
        ) from error


def add_environment_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options for the settings of an environment and of its view."""
    settings: dict[str, Any] = {"nargs": "+", "action": StoreSettings, "metavar": "KEY:VALUE"}
    parser.add_argument("--env-kwargs", help="settings of ENV", **settings)
    parser.add_argument(
        "--view-kwargs",
        help="planes, mission, n_actions (MiniGrid); default: those under which the symmetry is declared",
        **settings,
    )


def add_packages(parser: argparse.ArgumentParser) -> None:
    """Add the option for modules of the user's own."""
    parser.add_argument(
        "--gym-packages", nargs="+", default=[], metavar="MODULE", help="modules that register worlds or symmetries"
    )


def whole(least: int, *others: int, most: int | None = None) -> Callable[[str], int]:
    """Return a type of option: a whole number that is at least ``least``.

    Args:
        least: The smallest number allowed.
        *others: Single numbers that are allowed as well, such as -1 for "none".
        most: The largest number allowed.
    """
    bounds = f"from {least}" + ("" if most is None else f" to {most}")
    allowed = f"a whole number {bounds}" + "".join(f", or {other}" for other in others)

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or (number not in others and (number < least or (most is not None and number > most))):
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return number

    return read


def rate(text: str) -> float:
    """Return a rate, a number that is at least 0, such as 0.9.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no rate from 0 on, such as 0.9")
    return number


def seconds(text: str) -> float:
    """Return a number of seconds, from 0 on.

    Raises:
        argparse.ArgumentTypeError: It is no such number.
    """
    try:
        return rate(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 on, such as 30") from error


def without_option(arguments: Sequence[str], name: str) -> list[str]:
    """Return a command line without an option that takes one value.

    Args:
        arguments: The words.
        name: The option, such as ``"--symmetry"``.
    """
    words = [word for word in arguments if not word.startswith(f"{name}=")]
    return [word for i, word in enumerate(words) if word != name and (i == 0 or words[i - 1] != name)]


def device(text: str) -> str:
    """Return the name of a torch device that can be used here; ``"auto"`` leaves the choice to Stable-Baselines3.

    Raises:
        argparse.ArgumentTypeError: No such device, or this machine has none.
    """
    from equirl.devices import check_device  # torch is slow to import, so only when it is needed

    try:
        if text != "auto":
            check_device(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; auto takes the best") from error
    return text


def existing_file(what: str) -> Callable[[str], Path]:
    """Return a type of option: a file that is there; ``what`` says of which kind, for the message."""

    def read(text: str) -> Path:
        path = Path(text)
        if _is(path.is_dir):
            raise argparse.ArgumentTypeError(f"{text!r} is a folder; give the file of {what}")
        if not _is(path.is_file):
            raise argparse.ArgumentTypeError(f"there is no file {text!r}; give the file of {what}")
        return path

    return read


def existing_agent(text: str) -> Path:
    """Return the file or the folder of an agent, ``.zip`` added where it was left out; a type of option.

    Raises:
        argparse.ArgumentTypeError: There is none.
    """
    path = Path(text)
    if _is((path / "agent.json").is_file):
        return path
    read = existing_file("an agent, as SB3's save() wrote it, or the folder that `equirl export` wrote")
    try:
        return read(text)
    except argparse.ArgumentTypeError:
        return read(f"{text}.zip") if _is(Path(f"{text}.zip").is_file) else read(text)


def new_file(text: str) -> Path:
    """Return a path to write to, if that is possible; a type of option.

    Raises:
        argparse.ArgumentTypeError: A folder has that name, or the file cannot be written there.
    """
    try:
        check_output(Path(text), folder=False)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def check_output(path: Path, folder: bool) -> None:
    """Check that a file or a folder can be written; nothing is made here.

    Raises:
        ValueError: Something of another kind has that name, or the nearest folder above cannot be written to.
    """
    if not path.name and not folder:
        raise ValueError(f"{str(path)!r} names no file to write to")
    if _is(path.exists) and path.is_dir() != folder:
        raise ValueError(f"{path} is {'a file' if folder else 'a folder'}; give another name to write to")
    above = path if folder else path.absolute().parent
    while not _is(above.exists) and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ValueError(f"{path} cannot be written: {above} is not a folder")
    if not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"{path} cannot be written: no permission to write in {above.absolute()}")


def _is(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except (OSError, ValueError):  # a name that is too long, or one with a null character
        return False
