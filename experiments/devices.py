"""Torch devices as they are named on the command line."""

from __future__ import annotations

import equirl.agents.devices
from equirl.experiments.checks import check_text

__all__ = ["check_device"]


def check_device(name: str) -> None:
    """Check that a device can be used here.

    Raises:
        ValueError: The name is no text, or as ``equirl.agents.devices.check_device``.
    """
    check_text("a device", name)
    equirl.agents.devices.check_device(name)
