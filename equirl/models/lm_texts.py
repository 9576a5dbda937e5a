"""Texts for language models: padded batches, where a prompt ends, and sampled continuations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from equirl.arguments import check_texts, whole_number
from equirl.seeded import seeded
from equirl.testing import evaluation_mode

__all__ = ["encode", "generate_texts", "prompt_length"]


def encode(tokenizer: Any, texts: Sequence[str], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return tokens and attention mask of texts, padded on the left, integers ``[B, T]`` each.

    Raises:
        ValueError: No texts.
        TypeError: One text in place of a list.
    """
    check_texts(texts, "texts")
    if not texts:
        raise ValueError("there are no texts; give at least one")
    batch = tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left")
    return {name: batch[name].to(device) for name in ("input_ids", "attention_mask")}


def prompt_length(tokenizer: Any, prompt: str, tokens: list[int]) -> int | None:
    """Return how many of a text's tokens are its prompt's; ``None`` where one token has a part in both.

    Args:
        tokenizer: The tokenizer.
        prompt: The beginning of the text.
        tokens: The text's.
    """
    of_prompt = tokenizer(prompt)["input_ids"]
    return len(of_prompt) if tokens[: len(of_prompt)] == of_prompt else None


def generate_texts(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    samples: int,
    seed: int,
    max_new_tokens: int = 15,
    **settings: Any,
) -> list[list[str]]:
    """Return continuations of each prompt, without the prompt.

    Args:
        model: Any model with ``generate``.
        tokenizer: Its tokenizer.
        prompts: Texts to continue, in one batch.
        samples: Continuations of each.
        seed: Seed of the sampling.
        max_new_tokens: Length of a continuation.
        **settings: Arguments of ``generate``; by default sampling from the 40 most probable tokens.

    Raises:
        ValueError: No prompts, no samples, or no tokens to add.
        TypeError: One prompt in place of a list.
    """
    whole_number(samples, "samples", 1)
    whole_number(max_new_tokens, "max_new_tokens", 1)
    batch = encode(tokenizer, prompts, next(model.parameters()).device)
    settings = {"do_sample": True, "top_k": 40, **settings}
    with evaluation_mode(model), seeded(seed):
        answers = model.generate(
            **batch,
            max_new_tokens=max_new_tokens,
            num_return_sequences=samples,
            pad_token_id=tokenizer.pad_token_id,
            **settings,
        )[:, batch["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(answers, skip_special_tokens=True)
    return [texts[at : at + samples] for at in range(0, len(texts), samples)]
