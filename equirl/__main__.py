"""``python -m equirl``: the same as the command ``equirl``."""

import sys

from equirl.command import main

sys.exit(main())
