"""Measurements of a workbench: continuations, how unequally prompts are continued, and what generation costs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from equirl.experiments.nlg.config import SpeedConfig, split_method
from equirl.experiments.nlg.scores import LABELS
from equirl.experiments.nlg.texts import TEXTS, read_texts
from equirl.experiments.nlg.workbench import Workbench
from equirl.experiments.tables import Rows
from equirl.models.lm_measures import perplexity, unfairness
from equirl.models.lm_texts import encode, generate_texts

__all__ = ["AUDIT_COLUMNS", "SAMPLE_COLUMNS", "SPEED_COLUMNS", "audit_rows", "sample_rows", "speed_rows"]

SAMPLE_COLUMNS = (
    *("group", "method", "context", "member", "prompt", "sample", "continuation"),
    *("sentiment", *LABELS, "view", "seconds"),
)

AUDIT_COLUMNS = (
    *("method", "group", "prompt", "gap", "perplexity"),
    *("plain_gap", "plain_perplexity", "divergence", "context", "member", *TEXTS, *(f"plain_{name}" for name in TEXTS)),
)

SPEED_COLUMNS = ("method", "group", "order", "batch", "seconds", "seconds_low", "seconds_high", "ratio_to_plain")

_PROMPT_TOKENS = 4
_PROMPTS_TOGETHER = 2


def sample_rows(
    bench: Workbench,
    method: str,
    samples: int,
    max_new_tokens: int,
    settings: dict[str, Any],
    scored: Callable[[list[str]], list[tuple[float, ...]]] | None = None,
) -> Rows:
    """Return continuations of all prompts of a bench, a row of ``SAMPLE_COLUMNS`` each.

    Args:
        bench: The model and the word group.
        method: The method.
        samples: Continuations of each prompt.
        max_new_tokens: Length of a continuation, in tokens.
        settings: Arguments of ``generate``.
        scored: Sentiment and regard of whole texts; ``None``: not scored.
    """
    model, _ = bench.model(method)
    rows = []
    # tqdm's None: a bar where there is a terminal.
    with tqdm(total=len(bench.prompts), desc=f"{bench.words.name} {method}", disable=None) as bar:
        for at in range(0, len(bench.prompts), _PROMPTS_TOGETHER):
            some = bench.prompts[at : at + _PROMPTS_TOGETHER]
            starts = [prompt.text for prompt in some]
            started = time.perf_counter()
            chosen, extra = ["" for _ in some], dict(settings)
            if split_method(method)[0] == "equizero":
                weights = model.view_weights(**encode(bench.tokenizer, starts, bench.config.device))
                extra["view_weights"] = weights
                chosen = ["/".join(str(int(g)) for g in row.nonzero().flatten()) for row in weights]
            seed = bench.config.seed + at
            texts = generate_texts(model, bench.tokenizer, starts, samples, seed, max_new_tokens, **extra)
            seconds = round((time.perf_counter() - started) / (len(some) * samples), 4)
            for prompt, ends, view in zip(some, texts, chosen, strict=True):
                about = (bench.words.name, method, prompt.context, prompt.member, prompt.text)
                values = [("",) * 4] * samples if scored is None else scored([prompt.text + end for end in ends])
                for number, (end, value) in enumerate(zip(ends, values, strict=True)):
                    rows.append((*about, number, end, *value, view, seconds))
            bar.update(len(some))
    return rows


def audit_rows(
    bench: Workbench, methods: Sequence[str], max_new_tokens: int, progress: bool = False
) -> Iterator[Sequence[Any]]:
    """Yield a row of ``AUDIT_COLUMNS`` for each method and prompt.

    The gap is the total variation between ``P(. | x)`` and ``g^-1 P(. | gx)``, the largest over the group. A prompt's
    perplexity is that of a continuation sampled from the plain model, the same for all methods. Beside both stand the
    plain model's, its gap under the same action, and the perplexities of ``TEXTS``, the same in all rows of a method. λ
    is fitted on other continuations of the same prompts.
    """
    starts = [prompt.text for prompt in bench.prompts]
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
        for row, prompt in enumerate(bench.prompts):
            yield (
                *(method, bench.words.name, prompt.text, float(measured.gap[row]), of_prompts[row]),
                *(float(plain_gaps[action.relaxed][row]), plain[0][row], float(measured.divergence[row])),
                *(prompt.context, prompt.member, *of_texts, *plain[1]),
            )


def _perplexities(bench: Workbench, model: Any, texts: list[str], starts: list[str]) -> tuple[list[float], list[float]]:
    """Return the perplexity of each continuation, and of each of ``TEXTS`` (geometric means over their lines)."""
    of_lines = [perplexity(model, bench.tokenizer, read_texts(name), _PROMPT_TOKENS) for name in TEXTS]
    of_texts = [float(torch.tensor(lines).log().mean().exp()) for lines in of_lines]
    return perplexity(model, bench.tokenizer, texts, starts), of_texts


def speed_rows(bench: Workbench, config: SpeedConfig) -> Iterator[Sequence[Any]]:
    """Yield a row of ``SPEED_COLUMNS`` for each method and batch: greedy generation of a fixed number of tokens.

    Seconds are the median over the rounds, with the fastest and the slowest round. The ratio to plain is the median of
    the ratios within each round.
    """
    methods = ["plain", *(method for method in config.method if method != "plain")]
    models = {method: bench.model(method)[0] for method in methods}
    length = config.max_new_tokens
    for batch in config.batch:
        prompts = [bench.prompts[at % len(bench.prompts)].text for at in range(batch)]
        inputs = encode(bench.tokenizer, prompts, config.device)
        times: dict[str, list[float]] = {method: [] for method in methods}
        for _ in range(config.rounds + 1):  # the first warms up
            for method, model in models.items():
                started = time.perf_counter()
                model.generate(
                    **inputs,
                    max_new_tokens=length,
                    min_new_tokens=length,
                    do_sample=False,
                    pad_token_id=bench.tokenizer.pad_token_id,
                )
                times[method].append(time.perf_counter() - started)
        for method in methods:
            of_method, of_plain = times[method][1:], times["plain"][1:]
            ratio = statistics.median(ours / theirs for ours, theirs in zip(of_method, of_plain, strict=True))
            seconds = statistics.median(of_method)
            bounds = round(min(of_method), 4), round(max(of_method), 4)
            order = 1 if method == "plain" else bench.words.group.order
            yield method, bench.words.name, order, batch, round(seconds, 4), *bounds, round(ratio, 3)
