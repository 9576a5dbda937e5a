"""Texts that language models are measured on: prompts for each member of a group, and texts for perplexity."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from equirl.models.word_groups import WordGroup

__all__ = ["DATA", "TEXTS", "Prompt", "make_prompts", "read_texts"]

DATA = Path(__file__).parent / "data"
"""Folder of the texts that ship with the experiments."""

TEXTS = ("neutral", "mixed")
"""Texts of our own: without and with words of the groups."""


@dataclass(frozen=True)
class Prompt:
    """The beginning of a text.

    Attributes:
        context: ``respect``, ``occupation``, or what the user's file calls it.
        member: The group's member that the text names; empty if unknown.
        text: What is to be continued.
    """

    context: str
    member: str
    text: str


def make_prompts(words: WordGroup, path: Path | None = None) -> list[Prompt]:
    """Return all prompts for all members.

    Args:
        words: The word group.
        path: A TOML file of contexts, each a list of prompts with ``{group}`` in them; by default those of Sheng et al.
            (2019).

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: Another form; the prompt is named.
    """
    source = DATA / "prompts.toml" if path is None else path
    if not source.is_file():
        raise FileNotFoundError(f"there is no file of prompts {source}")
    try:
        contexts = tomllib.loads(source.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{source} is no TOML file: {error}") from error
    found = []
    for context, templates in contexts.items():
        for template in templates if isinstance(templates, list) else [templates]:
            if not isinstance(template, str) or "{group}" not in template:
                raise ValueError(f"{source}, {context}: {template!r} is no prompt with {{group}} in it")
            found += [Prompt(context, one, template.replace("{group}", one).rstrip()) for one in words.members]
    if not found:
        raise ValueError(f"{source} has no prompts; write CONTEXT = ['The {{group}} was', ...]")
    return found


def read_texts(name: str) -> list[str]:
    """Return the lines of one of ``TEXTS``."""
    return (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()
