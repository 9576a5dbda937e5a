"""What the subcommands share that hand over to rl_zoo3."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

import equirl.envs  # noqa: F401  (registers our environments, as --gym-packages equirl.envs does)

__all__ = ["DEFAULT_ENVIRONMENT", "arguments_of", "folder_name", "hyperparameter_file", "peek"]

DEFAULT_ENVIRONMENT = "equirl/GridWorld-v0"

_HYPERPARAMETERS = Path(__file__).parents[1] / "hyperparams"


def hyperparameter_file(algorithm: str, environment: str) -> Path | None:
    """Return our hyperparameter file where it has an entry for the environment, else ``None``: rl_zoo3's own then."""
    path = _HYPERPARAMETERS / f"{algorithm}.yml"
    if not path.exists() or environment not in yaml.safe_load(path.read_text()):
        return None
    return path


def folder_name(environment: str) -> str:
    """Return how rl_zoo3 names an environment in folders and files: slashes become dashes."""
    return environment.replace("/", "-")


def peek(arguments: Sequence[str], *flags: str, default: str) -> str:
    """Return the value that the arguments give an option of rl_zoo3's, without consuming it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(*flags, dest="value", default=default)
    return str(parser.parse_known_args(arguments)[0].value)


@contextmanager
def arguments_of(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Let the code inside, which reads ``sys.argv``, see these arguments."""
    before = sys.argv
    sys.argv = [program, *arguments]
    try:
        yield
    finally:
        sys.argv = before
