"""What the experiments need beyond equirl itself, and what to type where it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["NLG", "VISION", "needed", "package_folder"]

NLG = "'equirl[nlg]' (from a checkout: make nlg)"
VISION = "'equirl[vision]' (from a checkout: make vision)"


def needed(module: str, install: str) -> Any:
    """Return an imported module.

    Args:
        module: What is imported.
        install: What pip is to install where it is missing; ``NLG`` or ``VISION``, if it comes with that extra.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this needs {module.split('.')[0]}, which is not installed: pip install {install}", name=error.name
        ) from error


def package_folder(module: str, install: str) -> Path:
    """Return the folder of an installed package that holds data, without running any of it.

    Args:
        module: Its name.
        install: What pip is to install, without what the package asks for, where it is missing.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{module} is not installed: pip install --no-deps {install}", name=module)
    return Path(found.origin).parent
