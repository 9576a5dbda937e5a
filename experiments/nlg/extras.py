"""What the extra ``nlg`` brings, and what to type where it is missing."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["needed"]


def needed(module: str) -> Any:
    """Return an imported module of the extra ``nlg``.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`equirl nlg` needs {module.split('.')[0]}, which is not installed: pip install 'equirl[nlg]' "
            "(from a checkout: make nlg)"
        ) from error
