"""A language model and everything it takes to symmetrize it over one word group."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from equirl.experiments.nlg.config import ModelConfig, split_method
from equirl.experiments.nlg.scores import Score, make_score
from equirl.experiments.nlg.texts import Prompt, make_prompts
from equirl.models.causal_lm import SymmetrizedLM, make_lm_aggregator
from equirl.models.language_models import load_language_model
from equirl.models.lm_lambda_fit import LambdaSettings, fit_lambda
from equirl.models.lm_texts import generate_texts
from equirl.models.token_actions import TokenAction, token_action
from equirl.models.word_groups import WordGroup, load_word_group
from equirl.seeded import seeded

__all__ = ["Workbench", "make_method"]


class Workbench:
    """A model and all it takes to symmetrize it over the word group of a name; loaded once."""

    def __init__(self, config: ModelConfig, group: str) -> None:
        torch.set_num_threads(config.threads)
        self.config = config
        self.words: WordGroup = load_word_group(group)
        self.prompts: list[Prompt] = make_prompts(self.words, config.prompts)
        self.tokenizer, self.backbone = load_language_model(config.model, config.device)
        self._fit_prompts = self.prompts  # λ's; those to continue may be replaced
        self.lambda_settings = LambdaSettings(seed=config.seed)
        self._actions: dict[bool, TokenAction] = {}
        self._score: Any = None

    def uncovered(self, methods: Sequence[str]) -> list[str]:
        """Return the prompts with words of the group that do not move, under one of the methods."""
        actions = {relaxed: self.action(relaxed) for _, relaxed in map(split_method, methods)}
        return [
            prompt.text
            for prompt in self.prompts
            if not all(action.covers(self.tokenizer, prompt.text) for action in actions.values())
        ]

    def action(self, relaxed: bool = False) -> TokenAction:
        """Return how the group moves tokens."""
        if relaxed not in self._actions:
            vocabulary = self.backbone.get_output_embeddings().weight.shape[0]
            action = token_action(self.words, self.tokenizer, vocabulary, relaxed, self.config.pieces)
            action.tokens.to(self.config.device)
            action.on_scores.to(self.config.device)
            self._actions[relaxed] = action
        return self._actions[relaxed]

    def model(self, method: str) -> tuple[Any, TokenAction]:
        """Return a model by method, and the action under which it is symmetric."""
        base, relaxed = split_method(method)
        action = self.action(relaxed)
        if base == "equizero" and self._score is None:
            self._score = make_score(self.config.score, self.words, self.config.regard)
        parts = (self.backbone, self.tokenizer, action, self._score, self.config.look_ahead)
        return make_method(base, *parts, self._fit_prompts, self.lambda_settings), action


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
        score: Equizero takes the view whose continuation has the highest score.
        look_ahead: Tokens that equizero looks ahead.
        prompts: λ is fitted on continuations of these prompts; ``None``: λ stays constant.
        fit: Settings of the fit of λ.

    Raises:
        ValueError: An unknown method, or a score without texts to give it to.
    """
    if method == "plain":
        return backbone
    settings = fit or LambdaSettings()
    loss = None if score is None else functools.partial(_minus, score)
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


def _minus(score: Score, texts: list[str]) -> list[float]:
    return [-value for value in score(texts)]
