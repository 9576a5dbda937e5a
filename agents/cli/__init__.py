"""The commands ``equirl train``, ``enjoy`` and so on; :mod:`equirl.command` finds them."""

from equirl.command import main

__all__ = ["main"]
