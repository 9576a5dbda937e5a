"""``equirl nlg audit``: how unequally prompts are continued, and what evening it out costs in perplexity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tqdm import tqdm

from equirl.experiments.nlg.config import ModelConfig
from equirl.experiments.nlg.language_models import load_language_model
from equirl.experiments.nlg.measures import encode, generate_texts, perplexity, unfairness
from equirl.experiments.nlg.methods import make_method, split_method
from equirl.experiments.nlg.prompts import Prompt, make_prompts
from equirl.experiments.nlg.scores import make_score
from equirl.experiments.nlg.token_actions import TokenAction, token_action
from equirl.experiments.nlg.word_groups import DATA, WordGroup, load_word_group

__all__ = ["AUDIT_COLUMNS", "TEXTS", "Bench", "audit_rows", "read_texts"]

AUDIT_COLUMNS = ("method", "group", "prompt", "gap", "perplexity", "divergence", "context", "member")

TEXTS = ("neutral", "mixed")
"""Texts of our own: without and with words of the groups. Their rows have no prompt, gap and divergence."""

_PROMPT_TOKENS = 4


class Bench:
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
            self._actions[relaxed] = token_action(self.words, self.tokenizer, vocabulary, relaxed, self.config.pieces)
        return self._actions[relaxed]

    def model(self, method: str) -> tuple[Any, TokenAction]:
        """Return a model by method, and the action under which it is symmetric."""
        base, relaxed = split_method(method)
        action = self.action(relaxed)
        if base == "equizero" and self._score is None:
            self._score = make_score(self.config.score, self.words, self.config.regard)
        made = make_method(
            base, self.backbone, self.tokenizer, action, self._score, self.config.look_ahead, self.prompts
        )
        return (made if base == "plain" else made.to(self.config.device)), action


def read_texts(name: str) -> list[str]:
    """Return the lines of one of ``TEXTS``."""
    return (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def audit_rows(
    bench: Bench, methods: Sequence[str], max_new_tokens: int, progress: bool = False
) -> Iterator[Sequence[Any]]:
    """Yield a row of ``AUDIT_COLUMNS`` for each method and prompt, then for each method and text of ``TEXTS``.

    The gap is the total variation between ``P(. | x)`` and ``g^-1 P(. | gx)``, the largest over the group. A prompt's
    perplexity is that of a continuation sampled from the plain model, the same for all methods.

    Args:
        bench: The model and the word group.
        methods: Methods.
        max_new_tokens: Length of the continuations.
        progress: Whether to show a bar.
    """
    prompts = bench.prompts
    starts = [prompt.text for prompt in prompts]
    ends = generate_texts(bench.backbone, bench.tokenizer, starts, 1, bench.config.seed, max_new_tokens)
    texts = [start + end for start, (end,) in zip(starts, ends, strict=True)]
    batch = encode(bench.tokenizer, starts, bench.config.device)
    for method in tqdm(methods, desc=f"audit {bench.words.name}", disable=None if progress else True):
        model, action = bench.model(method)
        measured = unfairness(model, action, batch)
        perplexities = perplexity(model, bench.tokenizer, texts, starts)
        for row, prompt in enumerate(prompts):
            gap, divergence = float(measured.gap[row]), float(measured.divergence[row])
            member = bench.words.members[prompt.member]
            yield method, bench.words.name, prompt.text, gap, perplexities[row], divergence, prompt.context, member
        for name in TEXTS:
            of_text = perplexity(model, bench.tokenizer, read_texts(name), _PROMPT_TOKENS)
            mean = float(torch.tensor(of_text).log().mean().exp())
            yield method, bench.words.name, "", "", mean, "", f"{name} text", ""
