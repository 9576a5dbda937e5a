"""``equirl nlg audit``: how unequally prompts are continued, and what evening it out costs in perplexity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from equirl.experiments.nlg.texts import TEXTS, Prompt, read_texts
from equirl.experiments.nlg.workbench import Workbench
from equirl.models.lm_measures import perplexity, unfairness
from equirl.models.lm_texts import encode, generate_texts

__all__ = ["AUDIT_COLUMNS", "audit_rows"]

AUDIT_COLUMNS = (
    *("method", "group", "prompt", "gap", "perplexity"),
    *("plain_gap", "plain_perplexity", "divergence", "context", "member", *TEXTS, *(f"plain_{name}" for name in TEXTS)),
)

_PROMPT_TOKENS = 4


def audit_rows(
    bench: Workbench, methods: Sequence[str], max_new_tokens: int, progress: bool = False
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


def _member(bench: Workbench, prompt: Prompt) -> str:
    return "" if prompt.member is None else bench.words.members[prompt.member]


def _perplexities(bench: Workbench, model: Any, texts: list[str], starts: list[str]) -> tuple[list[float], list[float]]:
    """Return the perplexity of each continuation, and of each of ``TEXTS`` (geometric means over their lines)."""
    of_lines = [perplexity(model, bench.tokenizer, read_texts(name), _PROMPT_TOKENS) for name in TEXTS]
    of_texts = [float(torch.tensor(lines).log().mean().exp()) for lines in of_lines]
    return perplexity(model, bench.tokenizer, texts, starts), of_texts
