"""Names of methods: those of the paper, each perhaps in its relaxed form; known before any model is loaded."""

from __future__ import annotations

from equirl.experiments.checks import check_text
from equirl.names import ORBIT_METHODS, unknown_name_message

__all__ = ["ALL_METHODS", "split_method"]

ALL_METHODS = ("plain", *ORBIT_METHODS)
"""All methods, the plain model among them."""

_RELAXED = "relaxed_"


def split_method(method: str) -> tuple[str, bool]:
    """Return a method without the word ``relaxed_``, and whether it had it.

    Raises:
        ValueError: Unknown method.
    """
    check_text("a method", method)
    base = method.removeprefix(_RELAXED)
    if base not in ALL_METHODS or method == _RELAXED + "plain":
        known = [*ALL_METHODS, *(_RELAXED + name for name in ORBIT_METHODS)]
        raise ValueError(unknown_name_message("method", method, known))
    return base, base != method
