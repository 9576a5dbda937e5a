"""Scores of texts: sentiment, regard, or a function of your own; each is a proxy loss of equizero as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from equirl.experiments.nlg.regard import load_regard
from equirl.experiments.optional import NLG, needed, own_function
from equirl.models.word_groups import WordGroup

__all__ = ["Score", "make_score", "own_score", "sentiment"]

Score = Callable[[list[str]], list[float]]
"""From texts to one number each."""


def sentiment() -> Score:
    """Return VADER's compound sentiment, from -1 to 1 (Hutto and Gilbert 2014): a lexicon and some rules."""
    return _Sentiment(needed("vaderSentiment.vaderSentiment", NLG).SentimentIntensityAnalyzer())


def make_score(name: str, words: WordGroup, regard: str = "") -> Score:
    """Return a score of texts, higher is better.

    Args:
        name: ``"sentiment"``; ``"regard"``: the probability of positive minus that of negative; or
            ``"MODULE:FUNCTION"``, a function from a list of texts to a list of numbers, such as minus the toxicity.
            From the first two the group is hidden (VADER, for one, likes the word "straight").
        words: What is hidden.
        regard: Which regard classifier; see ``load_regard``.

    Raises:
        ValueError: An unknown name, or a function that cannot be imported.
    """
    if name == "sentiment":
        return _Masked(words, sentiment())
    if name == "regard":
        return _Masked(words, _Regard(load_regard(regard)))
    return own_score(name)


@dataclass(frozen=True)
class _Sentiment:
    """VADER's sentiment. The scores are classes, not nested functions, so that models with them can be pickled."""

    analyzer: Any

    def __call__(self, texts: list[str]) -> list[float]:
        return [float(self.analyzer.polarity_scores(text)["compound"]) for text in texts]


@dataclass(frozen=True)
class _Regard:
    """The probability of positive minus that of negative."""

    classify: Callable[[list[str]], np.ndarray]

    def __call__(self, texts: list[str]) -> list[float]:
        return [float(row[2] - row[0]) for row in self.classify(texts)]


@dataclass(frozen=True)
class _Masked:
    """A score of texts in which the group is hidden."""

    words: WordGroup
    score: Score

    def __call__(self, texts: list[str]) -> list[float]:
        return self.score([self.words.masked(text) for text in texts])


def own_score(name: str) -> Score:
    """Return a score of the user's own by ``"MODULE:FUNCTION"``.

    Raises:
        ValueError: Not of that form, or it cannot be imported.
    """
    return own_function("score", name, ("sentiment", "regard"))
