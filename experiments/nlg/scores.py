"""Scores of texts, which are proxy losses of equizero as well: sentiment, regard, or a function of your own.

Regard is how a text speaks of somebody, negative, neutral or positive (Sheng et al. 2019), by a small classifier.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from equirl.arguments import check_texts
from equirl.experiments.nlg.texts import DATA
from equirl.files import write_text
from equirl.models.sentence_encoder import SentenceEncoder
from equirl.models.word_groups import WordGroup
from equirl.optional import NLG, needed, own_function

__all__ = [
    *("LABELS", "OWN_SENTENCES", "RegardClassifier", "Score", "load_regard", "make_score", "own_score"),
    *("read_labelled", "sentiment", "train_regard"),
]

LABELS = ("negative", "neutral", "positive")

OWN_SENTENCES = DATA / "regard.tsv"
"""120 labelled sentences of our own, with the group hidden as XYZ; what the default classifier is trained on."""

_FOLDS = 5

Score = Callable[[list[str]], list[float]]
"""From texts to one number each."""


def sentiment() -> Score:
    """Return VADER's compound sentiment, from -1 to 1 (Hutto and Gilbert 2014): a lexicon and some rules."""
    return partial(_sentiments, needed("vaderSentiment.vaderSentiment", NLG).SentimentIntensityAnalyzer())


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
        return partial(_masked, words, sentiment())
    if name == "regard":
        return partial(_masked, words, partial(_regards, load_regard(regard)))
    return own_score(name)


# Functions at the top of a module, so that models with such scores can be pickled.


def _sentiments(analyzer: Any, texts: list[str]) -> list[float]:
    return [float(analyzer.polarity_scores(text)["compound"]) for text in texts]


def _regards(classify: Callable[[list[str]], np.ndarray], texts: list[str]) -> list[float]:
    return [float(row[2] - row[0]) for row in classify(texts)]


def _masked(words: WordGroup, score: Score, texts: list[str]) -> list[float]:
    return score([words.masked(text) for text in texts])


def own_score(name: str) -> Score:
    """Return a score of the user's own by ``"MODULE:FUNCTION"``.

    Raises:
        ValueError: Not of that form, or it cannot be imported.
    """
    return own_function("score", name, ("sentiment", "regard"))


@dataclass
class RegardClassifier:
    """Multinomial logistic regression on sentence vectors.

    Attributes:
        weights: ``[3, D]``, a row for each of ``LABELS``.
        bias: ``[3]``.
        encode: From texts to vectors ``[N, D]``.
        accuracy: Accuracy in cross-validation on its training sentences.

    Raises:
        ValueError: Weights of another form, or not finite.
    """

    weights: np.ndarray
    bias: np.ndarray
    encode: Callable[[list[str]], np.ndarray]
    accuracy: float

    def __post_init__(self) -> None:
        n = len(LABELS)
        if self.weights.ndim != 2 or self.weights.shape[0] != n or self.bias.shape != (n,):
            raise ValueError(
                f"weights must be [{n}, D] and bias [{n}], a row for each of {', '.join(LABELS)}; got "
                f"{list(self.weights.shape)} and {list(self.bias.shape)}"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("weights and bias must be finite numbers")

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Return the probabilities of the labels, ``[N, 3]``."""
        check_texts(texts, "texts")
        return np.asarray(softmax(self.encode(texts) @ self.weights.T + self.bias, axis=1))

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        content = {"weights": self.weights.tolist(), "bias": self.bias.tolist(), "accuracy": self.accuracy}
        write_text(path, json.dumps(content))


def read_labelled(path: Path) -> tuple[list[str], list[str]]:
    """Return texts and labels of a TSV with the columns ``label`` and ``text``.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: Other columns, an unknown label (the line is named), or a label without texts.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of labelled texts {path}")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            names, rows = reader.fieldnames, list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table of texts in UTF-8: {error}") from error
    if not {"label", "text"} <= set(names or ()):
        raise ValueError(f"{path} needs the columns label and text, separated by tabs; it has {names}")
    for number, row in enumerate(rows, start=2):
        if row["label"] not in LABELS or not (row["text"] or "").strip():
            raise ValueError(f"{path}, line {number}: {row['label']!r} with {row['text']!r}; labels are {LABELS}")
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    for label in LABELS:
        if labels.count(label) < _FOLDS:
            raise ValueError(f"{path} has {labels.count(label)} texts labelled {label}; at least {_FOLDS} are needed")
    return texts, labels


def train_regard(path: Path, encode: Callable[[list[str]], np.ndarray] | None = None) -> RegardClassifier:
    """Train a classifier on a TSV of labelled texts, see ``read_labelled``; MiniLM encodes them by default."""
    linear_model, selection = needed("sklearn.linear_model", NLG), needed("sklearn.model_selection", NLG)
    texts, labels = read_labelled(path)
    encode = SentenceEncoder() if encode is None else encode
    vectors = encode(texts)
    model = linear_model.LogisticRegression(C=10.0, max_iter=1000)
    folds = selection.StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    accuracy = float(selection.cross_val_score(model, vectors, labels, cv=folds).mean())
    model.fit(vectors, labels)
    order = [list(model.classes_).index(label) for label in LABELS]
    return RegardClassifier(model.coef_[order], model.intercept_[order], encode, accuracy)


_trained_once = cache(train_regard)


def load_regard(name: str = "") -> Callable[[list[str]], np.ndarray]:
    """Return a function from texts to the probabilities of ``LABELS``, ``[N, 3]``.

    Args:
        name: A file that ``equirl nlg train-regard`` wrote, or a text classifier on the Hugging Face hub or in a folder
            whose labels begin with neg, neu and pos; by default one trained on ``OWN_SENTENCES`` (a second).

    Raises:
        ValueError: The file holds no such classifier, or the model has other labels.
        FileNotFoundError: The file is not there.
    """
    if not name:
        return _trained_once(OWN_SENTENCES)
    if not name.endswith(".json"):
        return _of_transformers(name)
    if not Path(name).is_file():
        raise FileNotFoundError(f"there is no regard classifier {name}; `equirl nlg train-regard` makes one")
    try:
        content = json.loads(Path(name).read_text(encoding="utf-8"))
        weights, bias = np.array(content["weights"], dtype=float), np.array(content["bias"], dtype=float)
        return RegardClassifier(weights, bias, SentenceEncoder(), float(content["accuracy"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{name} is no regard classifier ({error}); `equirl nlg train-regard` makes one") from error


def _of_transformers(name: str) -> Callable[[list[str]], np.ndarray]:
    try:
        pipeline: Any = needed("transformers", NLG).pipeline("text-classification", model=name, top_k=None)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the regard classifier {name!r} cannot be loaded: give a file of `equirl nlg train-regard`, or a text "
            f"classifier on the Hugging Face hub or in a folder ({str(error).splitlines()[0]})"
        ) from error

    def classify(texts: list[str]) -> np.ndarray:
        rows = []
        for scores in pipeline(texts):
            by_label = {entry["label"].lower()[:3]: entry["score"] for entry in scores}
            if not {label[:3] for label in LABELS} <= set(by_label):
                raise ValueError(f"the classifier {name!r} has the labels {sorted(by_label)}, not {list(LABELS)}")
            rows.append([by_label[label[:3]] for label in LABELS])
        return np.array(rows)

    return classify
