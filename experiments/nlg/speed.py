"""``equirl nlg speed``: what generation costs, methods in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

from equirl.experiments.nlg.config import SpeedConfig
from equirl.experiments.nlg.workbench import Workbench
from equirl.models.lm_texts import encode

__all__ = ["SPEED_COLUMNS", "speed_rows"]

SPEED_COLUMNS = ("method", "group", "order", "batch", "seconds", "seconds_low", "seconds_high", "ratio_to_plain")


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
