"""Language models by method: the plain one, and its symmetrized forms, ready to generate."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from equirl.experiments.nlg.lambda_fit import LambdaSettings, fit_lambda
from equirl.experiments.nlg.measures import generate_texts
from equirl.experiments.nlg.method_names import ALL_METHODS, split_method
from equirl.experiments.nlg.prompts import Prompt
from equirl.experiments.nlg.scores import Score
from equirl.experiments.timing import seeded
from equirl.models.causal_lm import SymmetrizedLM, make_lm_aggregator
from equirl.models.token_actions import TokenAction

__all__ = ["ALL_METHODS", "make_method", "split_method"]


def make_method(
    method: str,
    backbone: Any,
    tokenizer: Any,
    action: TokenAction,
    score: Score | None = None,
    look_ahead: int = 10,
    prompts: list[Prompt] | None = None,
    fit: LambdaSettings | None = None,
) -> Any:
    """Return the plain model itself, or its symmetrized form.

    Args:
        method: One of ``ALL_METHODS``.
        backbone: The plain model.
        tokenizer: Its tokenizer.
        action: How the group moves tokens; made with or without general words.
        score: Of equizero: the view whose continuation has the highest score is taken.
        look_ahead: Of equizero: tokens.
        prompts: Of λ-equitune: what λ is fitted on continues these; ``None``: λ stays constant.
        fit: Of λ-equitune.

    Raises:
        ValueError: An unknown method, or a score without texts to give it to.
    """
    if method == "plain":
        return backbone
    settings = fit or LambdaSettings()
    loss = None if score is None else _Loss(score)
    decode = functools.partial(tokenizer.batch_decode, skip_special_tokens=True)
    with seeded(settings.seed):
        aggregator = make_lm_aggregator(method, backbone, loss, decode, look_ahead, tokenizer.pad_token_id)
    model = SymmetrizedLM(backbone, action, aggregator).to(backbone.device).eval()
    if method == "lambda_equitune" and prompts:
        beginnings = [prompt.text for prompt in prompts]
        ends = generate_texts(backbone, tokenizer, beginnings, settings.samples, settings.seed, settings.max_new_tokens)
        pairs = [(start, end) for start, some in zip(beginnings, ends, strict=True) for end in some if end.strip()]
        fit_lambda(model, tokenizer, [start + end for start, end in pairs], [start for start, _ in pairs], settings)
    return model


@dataclass(frozen=True)
class _Loss:
    """Minus a score; a class, so that models with it can be pickled."""

    score: Score

    def __call__(self, texts: list[str]) -> list[float]:
        return [-value for value in self.score(texts)]
