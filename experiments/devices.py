"""Torch devices as they are named on the command line."""

from __future__ import annotations

import torch

from equirl.experiments.checks import check_text

__all__ = ["check_device"]


def check_device(name: str) -> None:
    """Check that a device can be used here.

    Raises:
        ValueError: No such device, this machine or this build of torch has none, or it holds no numbers ("meta").
    """
    check_text("a device", name)
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(0, device=name)
    # AssertionError: how a torch without CUDA says so.
    except (RuntimeError, AssertionError) as error:
        known = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); there are: {', '.join(known)}"
        ) from error
