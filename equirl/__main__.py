"""``python -m equirl``: the same as the command ``equirl``."""

import sys
from importlib.metadata import entry_points

# Through the entry point: the core imports nothing of agents.
(command,) = entry_points(group="console_scripts", name="equirl")
sys.exit(command.load()())
