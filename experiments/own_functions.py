"""Functions of the user's own, named on the command line."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

from equirl.experiments.checks import check_text
from equirl.names import unknown_name_message

__all__ = ["own_function"]


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
