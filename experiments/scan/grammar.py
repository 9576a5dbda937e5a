"""SCAN's grammar and what its commands mean (Lake and Baroni 2018, arXiv:1711.00350)."""

from __future__ import annotations

from collections.abc import Iterator

from equirl.arguments import check_text
from equirl.names import unknown_name_message

__all__ = ["ACTIONS", "VERBS", "WORDS", "all_commands", "interpret"]

VERBS = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
"""Verb to its action."""

TURNS = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}
"""Direction to its action."""

REPETITIONS = {"twice": 2, "thrice": 3}

WORDS = (*VERBS, "turn", *TURNS, "opposite", "around", *REPETITIONS, "and", "after")
"""All words of commands."""

ACTIONS = (*VERBS.values(), *TURNS.values())
"""All actions."""


def all_commands() -> Iterator[str]:
    """Yield every command of the grammar once, 20,910 in all.

    ``C -> S and S | S after S | S``, ``S -> V twice | V thrice | V``, ``V -> D opposite | D around | D | verb``.
    """
    heads = [*VERBS, "turn"]
    phrases = list(VERBS)
    for manner in ("", "opposite ", "around "):
        phrases += [f"{head} {manner}{direction}" for head in heads for direction in TURNS]
    sentences = [phrase + suffix for phrase in phrases for suffix in ("", " twice", " thrice")]
    yield from sentences
    for conjunction in ("and", "after"):
        for first in sentences:
            for second in sentences:
                yield f"{first} {conjunction} {second}"


def interpret(command: str) -> str:
    """Return the actions that a command stands for, separated by spaces.

    Raises:
        ValueError: Not a command of the grammar; the message says from which word on.
    """
    check_text("a command", command)
    words = command.split()
    for word in words:
        if word not in WORDS:
            raise ValueError(f"command {command!r}: {unknown_name_message('word', word, WORDS)}")
    for conjunction in ("and", "after"):
        if conjunction in words:
            at = words.index(conjunction)
            first, second = _sentence(words[:at], command), _sentence(words[at + 1 :], command)
            return " ".join(first + second if conjunction == "and" else second + first)
    return " ".join(_sentence(words, command))


def _sentence(words: list[str], command: str) -> list[str]:
    times = 1
    if words and words[-1] in REPETITIONS:
        times = REPETITIONS[words[-1]]
        words = words[:-1]
    return _phrase(words, command) * times


def _phrase(words: list[str], command: str) -> list[str]:
    head, *rest = words or [""]
    own = [VERBS[head]] if head in VERBS else []
    if own and not rest:
        return own
    if (own or head == "turn") and rest and rest[-1] in TURNS:
        turn = TURNS[rest[-1]]
        if len(rest) == 1:
            return [turn, *own]
        if rest[0] == "opposite" and len(rest) == 2:
            return [turn, turn, *own]
        if rest[0] == "around" and len(rest) == 2:
            return [turn, *own] * 4
    raise ValueError(
        f"command {command!r}: {' '.join(words)!r} is no phrase of SCAN's grammar; phrases are a verb or turn, perhaps "
        "with opposite or around, and a direction, such as 'walk', 'turn left', 'jump around right'"
    )
