"""``equirl nlg audit``: how unequally prompts are continued, and what evening it out costs in perplexity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from equirl.experiments.nlg.config import ModelConfig
from equirl.experiments.nlg.lambda_fit import LambdaSettings
from equirl.experiments.nlg.language_models import load_language_model
from equirl.experiments.nlg.measures import encode, generate_texts, perplexity, unfairness
from equirl.experiments.nlg.methods import make_method, split_method
from equirl.experiments.nlg.prompts import Prompt, make_prompts
from equirl.experiments.nlg.scores import make_score
from equirl.experiments.nlg.token_actions import TokenAction, token_action
from equirl.experiments.nlg.word_groups import DATA, WordGroup, load_word_group

__all__ = ["AUDIT_COLUMNS", "TEXTS", "Bench", "audit_rows", "read_texts"]

TEXTS = ("neutral", "mixed")
"""Texts of our own: without and with words of the groups."""

AUDIT_COLUMNS = (
    *("method", "group", "prompt", "gap", "perplexity"),
    *("plain_gap", "plain_perplexity", "divergence", "context", "member", *TEXTS, *(f"plain_{name}" for name in TEXTS)),
)

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


def read_texts(name: str) -> list[str]:
    """Return the lines of one of ``TEXTS``."""
    return (DATA / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def audit_rows(
    bench: Bench, methods: Sequence[str], max_new_tokens: int, progress: bool = False
) -> Iterator[Sequence[Any]]:
    """Yield a row of ``AUDIT_COLUMNS`` for each method and prompt.

    The gap is the total variation between ``P(. | x)`` and ``g^-1 P(. | gx)``, the largest over the group. A prompt's
    perplexity is that of a continuation sampled from the plain model, the same for all methods. Beside both stand the
    plain model's, its gap under the same action, and the perplexities of ``TEXTS``, the same in all rows of a method. λ
    is fitted on other continuations of the same prompts.

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
    plain_gaps: dict[bool, Tensor] = {}
    plain = _perplexities(bench, bench.backbone, texts, starts)
    for method in tqdm(methods, desc=f"audit {bench.words.name}", disable=None if progress else True):
        model, action = bench.model(method)
        if action.relaxed not in plain_gaps:
            plain_gaps[action.relaxed] = unfairness(bench.backbone, action, batch).gap
        measured = unfairness(model, action, batch)
        of_prompts, of_texts = plain if model is bench.backbone else _perplexities(bench, model, texts, starts)
        for row, prompt in enumerate(prompts):
            yield (
                *(method, bench.words.name, prompt.text, float(measured.gap[row]), of_prompts[row]),
                *(float(plain_gaps[action.relaxed][row]), plain[0][row], float(measured.divergence[row])),
                *(prompt.context, _member(bench, prompt), *of_texts, *plain[1]),
            )


def _member(bench: Bench, prompt: Prompt) -> str:
    return "" if prompt.member is None else bench.words.members[prompt.member]


def _perplexities(bench: Bench, model: Any, texts: list[str], starts: list[str]) -> tuple[list[float], list[float]]:
    """Return the perplexity of each continuation, and of each of ``TEXTS`` (geometric means over their lines)."""
    of_lines = [perplexity(model, bench.tokenizer, read_texts(name), _PROMPT_TOKENS) for name in TEXTS]
    of_texts = [float(torch.tensor(lines).log().mean().exp()) for lines in of_lines]
    return perplexity(model, bench.tokenizer, texts, starts), of_texts
