"""The judge: a malformed input is refused in equirl's own words, or it has a meaning that a check confirms."""

from __future__ import annotations

import dis
import importlib
import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["Expect", "Finding", "Nonsense", "complaint_of_error", "own_words", "shown"]

_ROOTS = tuple(
    str(Path(str(importlib.import_module(name).__file__)).resolve().parent)
    for name in ("equirl", "equirl.agents", "equirl.envs", "equirl.experiments")
)
_RAISE = dis.opmap["RAISE_VARARGS"]
_LONGEST = 160


class Expect(Enum):
    """What has to become of an input."""

    REFUSED = "refused"
    """A value that means nothing: an error in equirl's own words, which name the value or the argument."""
    WRONG_KIND = "wrong kind"
    """An object of another kind: an error; Python's own ``TypeError`` will do."""
    WRONG_OBJECT = "wrong object"
    """Something else where a group, a representation or a network is due: an error; whoever lacks an attribute may say
    so."""
    EITHER = "either"
    """It may mean something: an error as for a value, or a result that the target's own check finds right."""


@dataclass(frozen=True)
class Nonsense:
    """What is put in the place of a valid argument.

    Attributes:
        value: The malformed value.
        expect: What has to become of it.
        label: What is wrong with it, in a word or two.
    """

    value: Any
    expect: Expect
    label: str


@dataclass(frozen=True)
class Finding:
    """One input that was not met as it should have been.

    Attributes:
        target: What was called.
        what: The argument, option or file that was malformed.
        label: What was wrong with it.
        given: The malformed value, shortened.
        complaint: What happened, and why that is not right.
    """

    target: str
    what: str
    label: str
    given: str
    complaint: str


def shown(value: Any) -> str:
    """Return a value on one line, shortened."""
    try:
        text = " ".join(repr(value).split())
    except Exception as error:  # a repr may raise anything, and this is only for the report
        text = f"<{type(value).__name__} without a repr: {type(error).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def complaint_of_error(error: BaseException, nonsense: Nonsense, argument: str, words: tuple[str, ...]) -> str | None:
    """Return what is wrong with an error, or ``None`` where it is as it should be.

    Args:
        error: What was raised.
        nonsense: The input.
        argument: The malformed argument's name.
        words: Other words by which a message may name the argument.
    """
    told = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if nonsense.expect is Expect.WRONG_KIND and isinstance(error, TypeError):
        return None
    if nonsense.expect is Expect.WRONG_OBJECT and isinstance(error, (TypeError, AttributeError)):
        return None
    plain = type(error) in (ValueError, TypeError, FileNotFoundError, NotADirectoryError, IsADirectoryError)
    ours = own_words(error.__traceback__)
    if not plain and not (ours and isinstance(error, (ValueError, TypeError, OSError, ImportError))):
        return f"an error of the wrong class: {told}"
    if not ours:
        return f"not in equirl's own words: {told}"
    if nonsense.expect is not Expect.WRONG_OBJECT and not _names(str(error), nonsense.value, (argument, *words)):
        return f"the message names neither the value nor the argument: {told}"
    return None


def own_words(traceback: TracebackType | None) -> bool:
    """Return whether an error was raised by a ``raise`` of equirl's, not by a function that it called."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    inside = str(Path(code.co_filename).resolve()).startswith(_ROOTS)
    return inside and code.co_code[traceback.tb_lasti] == _RAISE


def _names(message: str, value: Any, words: tuple[str, ...]) -> bool:
    text = " ".join(message.lower().split())
    wanted = [form for word in words for form in (word, word.replace("_", " "), word.replace("_", "-"))]
    return any(_holds(text, form.lower()) for form in (*wanted, *_forms(value)) if form.strip())


def _holds(text: str, form: str) -> bool:
    """Return whether a text holds a form, which has to be a word of its own where it is short."""
    if len(form) > 3 or not form.isalnum():
        return form in text
    return re.search(rf"(?<!\w){re.escape(form)}(?!\w)", text) is not None


def _forms(value: Any) -> list[str]:
    """Return the ways in which a message may show a value."""
    forms = [shown(value).removesuffix("..."), " ".join(str(value).split())[:_LONGEST]]
    if isinstance(value, (int, float, np.number)):
        forms += [f"{value:g}", f"{value}"]
    if isinstance(value, (np.ndarray, Tensor)):
        forms += [str(list(value.shape)), str(tuple(value.shape)), str(value.dtype)]
    if isinstance(value, dict):
        forms += [str(key) for key in value]
    if isinstance(value, (list, tuple)) and len(value) < 20:
        forms += [shown(part) for part in value]
        forms.append(str(list(value)))
    return [form for form in forms if form not in ("[]", "()", "")] or [
        "[]",
        "()",
        "{}",
        "empty",
        "none",
        "no ",
        "at least one",
    ]
