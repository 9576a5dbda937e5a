"""Look-up of things by name, with an error that lists the known names and suggests the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["METHODS", "ORBIT_METHODS", "unknown_name_message"]

METHODS = ("equitune", "lambda_equitune", "equizero", "canonical")
"""The methods by name; an agent's ``method``."""

ORBIT_METHODS = METHODS[:3]
"""Those that look at the whole orbit, as Basu et al. (2023) do; models of language, sequences and images take these."""


def unknown_name_message(kind: str, given: object, known: Iterable[str]) -> str:
    """Return the message for a name that is not known.

    Args:
        kind: What the name is of, such as ``"symmetry"``.
        given: What the user wrote.
        known: The names there are.
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(str(given), names, n=1, cutoff=0.4)
    hint = f" Did you mean {nearest[0]!r}?" if nearest else ""
    return f"{kind} {given!r} is unknown; known: {', '.join(names)}.{hint}"
