"""``python tests/fuzz``: the long run; ``--help`` lists the options."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

_MOST_MEMORY = 16 << 30  # what takes more is an error, and not the end of the machine


def _run() -> int:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # so that this folder is the package `fuzz`, as for pytest
    for name, value in (("SDL_VIDEODRIVER", "dummy"), ("MPLBACKEND", "Agg"), ("HF_HUB_OFFLINE", "1")):
        os.environ.setdefault(name, value)
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))

    import torch

    from fuzz.runner import main

    torch.set_num_threads(1)
    return main()


if __name__ == "__main__":
    sys.exit(_run())
