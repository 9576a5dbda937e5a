"""A pytest plugin that puts the commands ``equirl train`` and ``equirl enjoy`` in the place of rl_zoo3's scripts.

With ``PEERS_METHOD=stock`` the scripts stay, and are counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from recording import count_use

_COMMANDS = {"train.py": "train", "enjoy.py": "enjoy"}
_STOCK = os.environ.get("PEERS_METHOD", "stock") == "stock"


class _Process(subprocess.Popen[Any]):
    """A process that runs equirl's command where a script of rl_zoo3 was to run."""

    def __init__(self, args: Any, *others: Any, **kwargs: Any) -> None:
        if isinstance(args, list) and len(args) > 1 and args[0] == "python" and args[1] in _COMMANDS:
            count_use()
            if not _STOCK:
                args = [sys.executable, "-P", "-m", "equirl", _COMMANDS[args[1]], *args[2:]]
        super().__init__(args, *others, **kwargs)


subprocess.Popen = _Process  # type: ignore[misc]
