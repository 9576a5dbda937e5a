"""Whether a torch device can be used on this machine, and which ones there are."""

from __future__ import annotations

import torch

__all__ = ["check_device"]


def check_device(name: str | torch.device) -> None:
    """Check that a device can be used here.

    Raises:
        ValueError: No such device, this machine or this build of torch has none, or it holds no numbers (``"meta"``).
            The message lists the devices that there are.
    """
    try:
        if torch.device(name).type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.empty(1, device=name)
    # A torch without CUDA says so by an AssertionError; backends that are not built in, by a NotImplementedError.
    except (RuntimeError, NotImplementedError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if reason.startswith("Expected one of"):  # a list of all that torch might know
            reason = "torch knows no device of that name"
        found = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
        raise ValueError(
            f"device {str(name)!r} cannot be used here ({reason}); there are: {', '.join(found)}"
        ) from error
