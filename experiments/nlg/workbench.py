"""A language model and all it takes to symmetrize it over one word group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from equirl.experiments.nlg.config import ModelConfig
from equirl.experiments.nlg.language_models import load_language_model
from equirl.experiments.nlg.method_names import split_method
from equirl.experiments.nlg.methods import make_method
from equirl.experiments.nlg.prompts import Prompt, make_prompts
from equirl.experiments.nlg.scores import make_score
from equirl.models.lm_lambda_fit import LambdaSettings
from equirl.models.token_actions import TokenAction, token_action
from equirl.models.word_groups import WordGroup, load_word_group

__all__ = ["Workbench"]


class Workbench:
    """A model and all it takes to symmetrize it over one word group; loaded once.

    Args:
        config: Which model, and how.
        group: The word group's name.
    """

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
        score, look_ahead = self._score, self.config.look_ahead
        made = make_method(
            base, self.backbone, self.tokenizer, action, score, look_ahead, self._fit_prompts, self.lambda_settings
        )
        return made, action
