"""``equirl export``: an agent as a file for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.cli.arguments import CommandParser, existing_file, new_file
from equirl.agents.export import export_onnx, export_program
from equirl.agents.loading import ALGORITHMS, load_agent
from equirl.names import unknown_name_message

__all__ = ["main"]

_EXAMPLES = """\
The ending of OUT says what is written: .onnx (needs 'equirl[export]') or .pt2 (torch.export). A file is checked before
it is kept: it answers as the agent does, on random and on symmetric observations, and is itself equivariant.

examples:
  equirl export agent.zip -o policy.onnx
  equirl export agent.zip -o policy.pt2
"""


def _onnx(model: BaseAlgorithm, output: Path, options: argparse.Namespace) -> None:
    print(export_onnx(model, output))


def _program(model: BaseAlgorithm, output: Path, options: argparse.Namespace) -> None:
    print(export_program(model, output))


_KINDS: dict[str, Callable[[BaseAlgorithm, Path, argparse.Namespace], None]] = {
    ".onnx": _onnx,
    ".pt2": _program,
}
"""How each ending of the output is written; a kind is one function and one entry."""


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl export`` and return its exit status."""
    parser = CommandParser(prog="equirl export", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="AGENT.zip", type=existing_file("an agent"), help="as SB3's save() wrote it")
    parser.add_argument("-o", "--output", required=True, type=new_file, metavar="OUT", help="policy.onnx or policy.pt2")
    parser.add_argument("--algo", choices=sorted(ALGORITHMS), help="default: told from the file")
    options = parser.parse_args(list(arguments))
    kind = options.output.suffix
    if kind not in _KINDS:
        raise ValueError(unknown_name_message("ending of an output", kind, _KINDS))
    model = load_agent(options.model, algorithm=options.algo, device="cpu")
    _KINDS[kind](model, options.output, options)
    print(f"Written: {options.output}")
    return 0
