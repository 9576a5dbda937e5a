"""Commands and their options, by tyro: ``--help`` with choices and examples, and mistakes in one line."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro
from tyro.extras import SubcommandApp

from equirl.names import unknown_name_message

__all__ = ["Commands", "run_command", "run_subcommand"]

Config = TypeVar("Config")

Commands = Mapping[str, tuple[type[Any], Callable[[Any], int]]]
"""Name to the dataclass of the options, whose docstring is the help, and the function that gets them."""

_WIDE = "100000"
"""Columns of a terminal on which no message is broken into lines."""

_BOX = " │╭╮╰╯─-"

_CHOICE = re.compile(
    r"invalid choice (?P<given>'.*'|\".*\") for argument '(?P<option>.*)'\. Expected one of (?P<known>\(.*\))"
)

_MISTAKES = (ValueError, OSError, ImportError, MemoryError)


def run_subcommand(
    program: str, usage: str, commands: Commands, arguments: Sequence[str], *, kind: str = "command", default: str = ""
) -> int:
    """Run the command that the first argument names and return its exit status: 2 for a mistake of the user's.

    Args:
        program: What the user typed before the command's name.
        usage: What the help says beside the list of commands.
        commands: The commands.
        arguments: The command's name and its options.
        kind: What the commands are called in messages.
        default: The command for arguments that begin with an option; its help is that of the whole.
    """
    if default and (not arguments or arguments[0].startswith("-")):
        options, run = commands[default]
        return run_command(program, options, run, arguments, usage)
    if arguments and arguments[0] not in (*commands, "-h", "--help"):
        message = unknown_name_message(kind, arguments[0], commands)
        if arguments[0].startswith("-"):
            message = f"name a {kind} before {arguments[0]}: {', '.join(commands)}"
        print(f"{program}: {message}", file=sys.stderr)
        return 2
    app = SubcommandApp()
    for name, (options, run) in commands.items():
        app.command(name=name, help=options.__doc__)(_chosen(options, run))

    def parse(words: Sequence[str]) -> Any:
        return app.cli(prog=program, description=usage, args=words, config=(tyro.conf.OmitArgPrefixes,))

    if not arguments:
        with contextlib.suppress(SystemExit):
            parse(["--help"])
        return 2
    name = f"{program} {arguments[0]}" if arguments[0] in commands else program
    return _run(name, lambda: parse(list(arguments)), arguments)


def run_command(
    program: str,
    options: type[Config],
    run: Callable[[Config], int],
    arguments: Sequence[str],
    description: str | None = None,
) -> int:
    """Run a command and return its exit status: 2 for a mistake of the user's, which is one line on stderr.

    With ``EQUIRL_TRACEBACK`` in the environment a mistake raises its error.

    Args:
        program: What the user typed before the options.
        options: The dataclass of the options; it checks its values itself.
        run: Gets the options, does the work and returns the exit status.
        arguments: The options as typed.
        description: What the help begins with; by default the docstring of ``options``.
    """

    def parse() -> tuple[Callable[[Config], int], Config]:
        return run, tyro.cli(options, args=list(arguments), prog=program, description=description)

    return _run(program, parse, arguments)


def _chosen(options: type[Any], run: Callable[[Any], int]) -> Callable[..., Any]:
    """Return a function of the options, as tyro takes commands; it only remembers what is to be run."""

    def choose(command: Any) -> tuple[Callable[[Any], int], Any]:
        return run, command

    choose.__annotations__["command"] = options
    return choose


def _run(program: str, parse: Callable[[], tuple[Callable[[Any], int], Any]], arguments: Sequence[str]) -> int:
    try:
        run, options = _parsed(program, parse, arguments)
        return run(options)
    except BrokenPipeError:  # what reads our output has read enough
        raise
    except _MISTAKES as error:
        if os.environ.get("EQUIRL_TRACEBACK"):
            raise
        print(f"{program}: {_one_line(error)}", file=sys.stderr)
        return 2


def _parsed(program: str, parse: Callable[[], Config], arguments: Sequence[str]) -> Config:
    """Return what tyro makes of a command line.

    Raises:
        ValueError: An unknown option, or a value that its option does not take.
    """
    if {"-h", "--help"} & set(arguments):
        return parse()
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), _columns(_WIDE):
            return parse()
    except SystemExit as error:
        if isinstance(error.__context__, ValueError):  # what the dataclass found wrong with its values
            raise error.__context__ from None
        raise ValueError(f"{_first_message(said.getvalue())}; {program} --help lists the options") from None


def _first_message(text: str) -> str:
    """Return what tyro says is wrong, and the option that it thinks was meant, without the box around it."""
    plain = re.sub(r"\x1b\[[0-9;]*m|error parsing \S*__tyro\S*: ", "", text, flags=re.I)  # no colours, no inner names
    lines = [line.strip(" │") for line in plain.splitlines() if not set(line) <= set(_BOX)]
    message = lines[1] if len(lines) > 1 else "the options cannot be read"
    choice = _CHOICE.match(message)
    if choice is not None:
        given, known = ast.literal_eval(choice["given"]), ast.literal_eval(choice["known"])
        return unknown_name_message(choice["option"], given, known).removesuffix(".")
    if message.endswith(":") and len(lines) > 2:  # the options that are missing are below
        message = f"missing: {lines[2].split()[0]}"
    if "Perhaps you meant:" in lines:
        nearest = re.match(r"[^\s,]+", lines[lines.index("Perhaps you meant:") + 1])
        message += "" if nearest is None else f". Did you mean {nearest.group()!r}?"
    return message[:1].lower() + message[1:].removesuffix(".")


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"there is not enough memory for this ({text or 'out of memory'}); make it smaller"
    return text or type(error).__name__


@contextlib.contextmanager
def _columns(number: str) -> Iterator[None]:
    """Tell programs that the terminal has so many columns."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = number
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
