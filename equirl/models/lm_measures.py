"""Measures of language models: how exactly a model treats a group alike, and what that costs in fluency."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equirl.arguments import check_texts, whole_number
from equirl.models.lm_texts import encode, prompt_length
from equirl.models.token_actions import TokenAction
from equirl.testing import evaluation_mode

__all__ = ["Unfairness", "perplexity", "unfairness"]

_TOGETHER = 16


class Unfairness(NamedTuple):
    """How far apart ``P(. | x)`` and ``g^-1 P(. | gx)`` are for each prompt, the largest over the group, ``[B]``.

    Attributes:
        gap: Total variation, from 0 to 1.
        divergence: Kullback-Leibler divergence ``KL(P(. | x) || g^-1 P(. | gx))``, in nats.
    """

    gap: Tensor
    divergence: Tensor


@torch.no_grad()
def unfairness(model: Any, action: TokenAction, batch: dict[str, Tensor]) -> Unfairness:
    """Return how unequally a model continues prompts and their images under the group.

    Args:
        model: Any causal language model.
        action: How the group moves tokens.
        batch: See ``encode``.
    """
    with evaluation_mode(model):
        return _unfairness(model, action, batch)


def _unfairness(model: Any, action: TokenAction, batch: dict[str, Tensor]) -> Unfairness:
    here = _next_probabilities(model, batch)
    gaps, divergences = [], []
    gaps.append(torch.zeros(len(here), device=here.device))
    divergences.append(gaps[0])
    for element in range(1, action.words.group.order):
        moved = {**batch, "input_ids": action.tokens.transform(element, batch["input_ids"])}
        there = action.on_scores.transform(action.words.group.inverse(element), _next_probabilities(model, moved))
        gaps.append(0.5 * (here - there).abs().sum(dim=1))
        ratio = here.clamp_min(1e-30).log() - there.clamp_min(1e-30).log()
        divergences.append((here * ratio).sum(dim=1))
    return Unfairness(torch.stack(gaps).amax(dim=0), torch.stack(divergences).amax(dim=0))


@torch.no_grad()
def perplexity(model: Any, tokenizer: Any, texts: Sequence[str], prompts: Sequence[str] | int = 1) -> list[float]:
    """Return the perplexity of each text after its prompt, ``exp(-mean log P(token | the tokens before))``.

    It is not a number where nothing follows the prompt, or where the two share a token.

    Args:
        model: Any causal language model; for one that looks ahead of prompts it is told how long they are.
        tokenizer: Its tokenizer.
        texts: The texts.
        prompts: The prompt that each text begins with, or a number of tokens.

    Raises:
        ValueError: Another number of prompts than of texts, or a prompt of no tokens.
        TypeError: One text in place of a list.
    """
    check_texts(texts, "texts")
    if isinstance(prompts, int):
        whole_number(prompts, "the number of tokens of a prompt", 1)
    else:
        check_texts(prompts, "prompts")
        if len(prompts) != len(texts):
            raise ValueError(f"each text needs its prompt; got {len(texts)} texts and {len(prompts)} prompts")
    with evaluation_mode(model):
        return _perplexity(model, tokenizer, texts, prompts)


def _perplexity(model: Any, tokenizer: Any, texts: Sequence[str], prompts: Sequence[str] | int) -> list[float]:
    device = next(model.parameters()).device
    found = []
    for at in range(0, len(texts), _TOGETHER):
        some = texts[at : at + _TOGETHER]
        batch = encode(tokenizer, some, device)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        if isinstance(prompts, int):
            known: list[int | None] = [prompts] * len(some)
        else:
            rows = [ids[row][mask[row] == 1].tolist() for row in range(len(some))]
            pairs = zip(prompts[at : at + _TOGETHER], rows, strict=True)
            known = [prompt_length(tokenizer, prompt, row) for prompt, row in pairs]
        lengths = [length or 1 for length in known]
        extra = {}
        if getattr(model, "looks_ahead", False):
            beginnings = [ids[row][mask[row] == 1][:length].tolist() for row, length in enumerate(lengths)]
            starts = tokenizer.pad({"input_ids": beginnings}, padding_side="left", return_tensors="pt").to(device)
            extra["view_weights"] = model.view_weights(starts["input_ids"], starts["attention_mask"])
        logits = model(**batch, position_ids=(mask.cumsum(dim=1) - 1).clamp_min(0), **extra).logits[:, :-1]
        found_there = logits.float().log_softmax(dim=-1).gather(2, ids[:, 1:].unsqueeze(2)).squeeze(2)
        for row, length in enumerate(lengths):
            of_text = found_there[row, ids.shape[1] - int(mask[row].sum()) + length - 1 :]
            found.append(math.exp(-float(of_text.mean())) if len(of_text) and known[row] else math.nan)
    return found


def _next_probabilities(model: Any, batch: dict[str, Tensor]) -> Tensor:
    positions = (batch["attention_mask"].cumsum(dim=1) - 1).clamp_min(0)
    logits: Tensor = model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1]
    return logits.float().softmax(dim=-1)
