"""The command ``equirl``: one subcommand per entry point of the group ``equirl.commands``."""

from equirl.agents.cli.main import main

__all__ = ["main"]
