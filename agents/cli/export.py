"""``equirl export``: an agent as a file for other programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from equirl.agents.cli.arguments import CommandParser, existing_agent, new_file
from equirl.agents.cli.export_folder import add_folder_options, check_folder_options, write_folder
from equirl.agents.export import export_onnx, export_program
from equirl.agents.loading import ALGORITHMS, load_agent
from equirl.names import unknown_name_message

__all__ = ["main"]

_EXAMPLES = """\
The ending of OUT says what is written: .onnx (needs 'equirl[export]') or .pt2 (torch.export). A file is checked before
it is kept: it answers as the agent does, on random and on symmetric observations, and is itself equivariant.

Without an ending, OUT is a folder of safetensors and JSON with a model card, which load_agent and all commands open
without running any code of it.

examples:
  equirl export agent.zip -o policy.onnx
  equirl export agent.zip -o policy.pt2
  equirl export logs/dqn/CartPole-v1_1/CartPole-v1.zip -o cartpole-agent --episodes 100
  equirl export agent.zip -o cartpole-agent --env CartPole-v1 --push USER/cartpole-agent
"""


def _onnx(model: BaseAlgorithm, output: Path, options: argparse.Namespace) -> None:
    print(export_onnx(model, output))


def _program(model: BaseAlgorithm, output: Path, options: argparse.Namespace) -> None:
    print(export_program(model, output))


_KINDS: dict[str, Callable[[BaseAlgorithm, Path, argparse.Namespace], None]] = {
    ".onnx": _onnx,
    ".pt2": _program,
    "": write_folder,
}
"""How each ending of the output is written; a kind is one function and one entry."""


def _output(text: str) -> Path:
    return new_file(text) if Path(text).suffix else Path(text)


def main(arguments: Sequence[str]) -> int:
    """Run ``equirl export`` and return its exit status."""
    parser = CommandParser(prog="equirl export", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "model", metavar="AGENT.zip", type=existing_agent, help="as SB3's save() wrote it; or the folder of an agent"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=_output, metavar="OUT", help="policy.onnx, policy.pt2, or a folder"
    )
    parser.add_argument("--algo", choices=sorted(ALGORITHMS), help="default: told from the file")
    add_folder_options(parser)
    options = parser.parse_args(list(arguments))
    kind = options.output.suffix
    if kind not in _KINDS:
        raise ValueError(unknown_name_message("ending of an output", kind, [each or "none" for each in _KINDS]))
    check_folder_options(options)
    model = load_agent(options.model, algorithm=options.algo, device="cpu")
    _KINDS[kind](model, options.output, options)
    print(f"Written: {options.output}")
    return 0
