"""Words that a group permutes: lists as data files, checked, and the swap of a whole text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from equirl.arguments import whole_number
from equirl.groups import FiniteGroup, cyclic_group
from equirl.names import unknown_name_message

__all__ = ["Row", "WordGroup", "load_word_group", "named_word_groups"]

_DATA = Path(__file__).parent / "data"

Row = tuple[str, ...]
"""Words that the group takes into each other: the generator takes each to the next, the last to the first."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class WordGroup:
    """A cyclic group that permutes words.

    Attributes:
        name: Name of the list, or of its file.
        members: Names of the members in prompts, one for each element of the group.
        equality: Rows of words that always move.
        general: Rows of general words, such as pronouns: the relaxed form leaves them alone (Basu et al. 2023).
        source: Where the rows are from.

    Raises:
        ValueError: Rows that are texts or of unequal length, something that is no single word, or a word that stands
            twice: then this is no permutation.
    """

    name: str
    members: Row
    equality: tuple[Row, ...]
    general: tuple[Row, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        for kind, rows in (("members", (self.members,)), ("equality", self.equality), ("general", self.general)):
            given: object = rows  # whatever a file or a caller brings
            if not isinstance(given, tuple | list):
                raise ValueError(f"word group {self.name!r}: {kind} is {rows!r}, not a list of rows of words")
            for row in rows:
                self._check_row(kind, row)
        if not self.members:
            raise ValueError(f"word group {self.name!r} needs members and rows of words; it has no members")
        for member in self.members:
            if not member.strip() or self.members.count(member) > 1:
                raise ValueError(f"word group {self.name!r}: the member {member!r} is empty or there twice")
        for row in (*self.equality, *self.general):
            if len(row) != len(self.members):
                raise ValueError(
                    f"word group {self.name!r}: {list(row)} has {len(row)} words, but there are {len(self.members)} "
                    f"members {list(self.members)}; give one word for each"
                )
            for word in row:
                if not _WORD.fullmatch(word):
                    raise ValueError(f"word group {self.name!r}: {word!r} is no single word of letters")
        _ = self.forms(relaxed=False)  # checks that no word stands twice

    def _check_row(self, kind: str, row: object) -> None:
        if isinstance(row, str) or not isinstance(row, tuple | list):
            raise ValueError(
                f"word group {self.name!r}: {kind} has {row!r} in place of a row of words; a row is a list, such as "
                '["he", "she"]'
            )
        for word in row:
            if not isinstance(word, str):
                raise ValueError(
                    f"word group {self.name!r}: a group needs members and rows of words; got {word!r} in {kind}"
                )

    @cached_property
    def group(self) -> FiniteGroup:
        """The group, of as many elements as there are members."""
        return cyclic_group(len(self.members))

    def rows(self, relaxed: bool = False) -> tuple[Row, ...]:
        """Return the rows that move."""
        return self.equality if relaxed else (*self.equality, *self.general)

    def forms(self, relaxed: bool = False) -> dict[str, tuple[Row, int]]:
        """Return all spellings: each as given, with a capital, and in capitals, with its row and place there.

        Raises:
            ValueError: A word stands twice.
        """
        found: dict[str, tuple[Row, int]] = {}
        for row in self.rows(relaxed):
            for spelled in _spellings(row):
                for place, word in enumerate(spelled):
                    if found.setdefault(word, (spelled, place)) != (spelled, place):
                        raise ValueError(
                            f"word group {self.name!r} is no permutation: {word!r} occurs twice, in "
                            f"{list(found[word][0])} and in {list(spelled)}; take one of these rows out"
                        )
        return found

    def swap(self, element: int, text: str, relaxed: bool = False) -> str:
        """Return the text with each word moved by a group element; ``swap(inverse(g), swap(g, text)) == text``.

        Args:
            element: Number of the element.
            text: Any text; words are its longest runs of letters, digits and underscores.
            relaxed: Whether general words stay as they are.

        Raises:
            ValueError: The group has no such element.
        """
        if not 0 <= whole_number(element, "an element of the word group", 0) < self.group.order:
            raise ValueError(f"word group {self.name!r} has the elements 0 to {self.group.order - 1}; got {element}")
        forms = self.forms(relaxed)

        def moved(match: re.Match[str]) -> str:
            row, place = forms.get(match.group(), ((match.group(),), 0))
            return row[(place + element) % len(row)]

        return _WORD.sub(moved, text)

    def masked(self, text: str) -> str:
        """Return the text with ``XYZ`` for each member and each word that moves (as Sheng et al. 2019 hide groups)."""
        for member in self.members:
            text = re.sub(rf"\b{re.escape(member)}\b", "XYZ", text)
        forms = self.forms()
        return _WORD.sub(lambda match: "XYZ" if match.group() in forms else match.group(), text)


def named_word_groups() -> list[str]:
    """Return the names of the shipped lists."""
    return sorted(path.stem for path in _DATA.glob("*.toml"))


def load_word_group(name: str | Path) -> WordGroup:
    """Return a shipped word group by name, or one from a TOML file with ``members``, ``equality`` and ``general``.

    Raises:
        ValueError: An unknown name, a file of another form, or a list that is no permutation.
        FileNotFoundError: The file is not there.
    """
    path = Path(name) if str(name).endswith(".toml") else _DATA / f"{name}.toml"
    if not str(name).endswith(".toml") and str(name) not in named_word_groups():
        raise ValueError(unknown_name_message("word group", str(name), named_word_groups()) + "; or name a .toml file")
    if not path.is_file():
        raise FileNotFoundError(f"there is no word list {path}")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        unknown = sorted(set(content) - {"members", "equality", "general", "source"})
        if unknown:
            raise ValueError(f"{path} has {unknown[0]!r}, which is unknown; known: members, equality, general, source")
        members = _as_row(content["members"])
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
        raise ValueError(f"{path} is no word list: it needs `members` and rows `equality` ({error})") from error
    rows = {kind: content.get(kind, []) for kind in ("equality", "general")}
    equality, general = (tuple(map(_as_row, of)) if isinstance(of, list) else of for of in rows.values())
    try:
        return WordGroup(path.stem, members, equality, general, str(content.get("source", "")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _as_row(row: Any) -> Any:
    """Return a list as a row; anything else as it is, for the error to show."""
    return tuple(row) if isinstance(row, list) else row


def _spellings(row: Sequence[str]) -> list[Row]:
    """Return the row as given, and where that changes all of it, with capitals at the front and throughout."""
    found = [tuple(row)]
    if all(word.islower() for word in row):
        found.append(tuple(word.capitalize() for word in row))
    capitals = tuple(word.upper() for word in row)
    return found if capitals in found else [*found, capitals]
