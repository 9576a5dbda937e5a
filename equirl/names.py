"""Names: of the methods, and checks of given ones, with errors that list the known names and suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["METHODS", "ORBIT_METHODS", "check_names", "unknown_name_message"]

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


def check_names(
    kind: str, given: Sequence[str], known: Iterable[str] | None = None, *, may_repeat: bool = False, plural: str = ""
) -> None:
    """Check a list of names: at least one, all of them known, none there twice.

    Args:
        kind: What the names are of, such as ``"method"``.
        given: The names.
        known: The names that there are; ``None``: any.
        may_repeat: Whether a name that is there twice stands for the same as once.
        plural: The plural of ``kind``, if it does not end in "s".

    Raises:
        ValueError: No name, an unknown one, or one that is there twice.
        TypeError: A text in place of the list, whose letters would be taken for names.
    """
    if isinstance(given, str):
        raise TypeError(f"{plural or kind + 's'} are a tuple of names, not the text {given!r}; write ({given!r},)")
    if not isinstance(given, tuple | list):
        raise TypeError(f"{plural or kind + 's'} are a tuple of names; got {given!r}")
    if not given:
        raise ValueError(f"no {kind} is named; give at least one")
    names = None if known is None else list(known)
    for name in given:
        if names is not None and name not in names:
            raise ValueError(unknown_name_message(kind, name, names))
        if not may_repeat and list(given).count(name) > 1:
            raise ValueError(f"{kind} {name!r} is there twice; name each once")
