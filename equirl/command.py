"""Finds the subcommand and runs it; shows a user's mistake as one line, not as a traceback."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import equirl
from equirl.names import unknown_name_message

__all__ = ["main"]

_GROUP = "equirl.commands"

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LONGEST = 800
"""Characters of a message that are shown."""

_SUMMARIES = {
    "train": "train an agent (rl_zoo3), evaluate it, draw its learning curve",
    "enjoy": "watch a trained agent",
    "plot": "plot training curves of the runs in a folder",
    "record": "record a video of a trained agent",
    "envs": "list the registered environments, their symmetries and groups",
    "check": "check that an environment has a symmetry",
    "discover": "find the symmetry of an environment",
    "symmetrize": "make a trained agent equivariant",
    "export": "write an agent for other programs (ONNX, torch.export), or as a folder to share",
    "audit": "measure how symmetric a trained agent is, and what symmetrization gives it",
    "study": "compare methods over seeds, on your own world too; CSV and figures",
    "bench": "measure what symmetrization costs here",
    "scan": "sequence models that know that verbs are verbs",
    "nlg": "text generation that treats groups of people alike",
    "vision": "image classifiers that do not care how an image is turned",
}

_USAGE = """\
usage: equirl COMMAND [options]        equirl COMMAND --help

{commands}

examples:
  equirl train -P                                      λ-equitune DQN on the 7x7 grid, D4
  equirl train --symmetry grid-c4 --method equizero    another group and method
  equirl enjoy                                         watch the last agent
  equirl envs                                          what there is to train on
  equirl audit agent.zip --env CartPole-v1 --symmetry cartpole-z2

Errors are one line; set EQUIRL_TRACEBACK=1 for the traceback.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``equirl`` with the given arguments (the process's by default) and return its exit status.

    Returns:
        0: done; 1: the command ran and its check failed; 2: a mistake in the arguments or the files they name;
        130: interrupted, or 128 and the number of the signal that asked it to stop.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_USAGE.format(commands=_command_list(commands)), end="")
        return 0
    if arguments[0] in ("-V", "--version"):
        print(f"equirl {equirl.__version__}")
        return 0
    name, *rest = arguments
    if name not in commands:
        print(f"equirl: {unknown_name_message('command', name, commands)}", file=sys.stderr)
        return 2
    _see_current_folder()
    try:
        command: Callable[[Sequence[str]], int] = commands[name].load()
        with _stopped_in_order():
            return command(rest)
    except BrokenPipeError:  # `equirl envs | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as end:
        asked = next((each for each in end.args if isinstance(each, signal.Signals)), signal.SIGINT)
        print("equirl: interrupted" + ("" if asked == signal.SIGINT else f" by {asked.name}"), file=sys.stderr)
        return 128 + asked
    except SystemExit as end:  # how argparse and rl_zoo3 end
        if isinstance(end.code, str):
            print(f"equirl {name}: {end.code}", file=sys.stderr)
            return 2
        return int(end.code or 0)
    except Exception as error:  # files and settings of users make the libraries raise errors of any kind
        if os.environ.get("EQUIRL_TRACEBACK"):
            raise
        print(f"equirl {name}: {_in_one_line(error)}", file=sys.stderr)
        return 2


@contextmanager
def _stopped_in_order() -> Iterator[None]:
    """End at a signal that asks for it as at Ctrl-C, so that files are kept and worker processes ended.

    Job schedulers send SIGTERM, closed terminals SIGHUP. What is ignored, as under ``nohup``, stays ignored.
    """

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number))

    mine = threading.current_thread() is threading.main_thread()  # only there can handlers be set
    asking = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    asking = [number for number in asking if mine and signal.getsignal(number) == signal.SIG_DFL]
    for number in asking:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in asking:
            signal.signal(number, signal.SIG_DFL)


def _see_current_folder() -> None:
    """Let modules in the current folder be imported, as ``python -m`` does; installed ones come first."""
    try:
        folder = str(Path.cwd())
    except OSError:  # the folder has been deleted
        return
    if folder not in sys.path and "" not in sys.path:
        sys.path.append(folder)


def _in_one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ..."
    if isinstance(error, OSError) and error.errno in _FULL:
        text += (
            ": there is no room for a file. Those that were there are whole; make room and go on, by `equirl train "
            "--resume` or the same `equirl study`"
        )
    # rl_zoo3 reports missing files by AssertionError.
    told = bool(text) and isinstance(error, (AssertionError, ImportError, OSError, TypeError, ValueError))
    return f"{type(error).__name__}: {text}" + ("" if told else " (EQUIRL_TRACEBACK=1 shows where)")


def _command_list(commands: dict[str, EntryPoint]) -> str:
    order = [*_SUMMARIES, *sorted(set(commands) - set(_SUMMARIES))]
    return "\n".join(f"  {name:<12} {_SUMMARIES.get(name, '')}".rstrip() for name in order if name in commands)
