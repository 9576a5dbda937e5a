"""``equirl nlg compare``: continuations of all methods, scored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from equirl.experiments.nlg.audit import AUDIT_COLUMNS, audit_rows
from equirl.experiments.nlg.config import CompareConfig, split_method
from equirl.experiments.nlg.regard import LABELS, load_regard
from equirl.experiments.nlg.scores import own_score, sentiment
from equirl.experiments.nlg.texts import DATA, TEXTS
from equirl.experiments.nlg.workbench import Workbench
from equirl.experiments.study import Stage
from equirl.experiments.tables import Rows
from equirl.models.lm_lambda_fit import LambdaSettings
from equirl.models.lm_texts import encode, generate_texts
from equirl.models.word_groups import load_word_group

__all__ = ["SAMPLE_COLUMNS", "compare_stages", "sample_rows"]

SAMPLE_COLUMNS = (
    *("group", "method", "context", "member", "prompt", "sample", "continuation"),
    *("sentiment", *LABELS, "view", "seconds"),
)

_OWN_COLUMN = "own"
_PROMPTS_TOGETHER = 2

_Job = tuple[CompareConfig, str, str]


def compare_stages(config: CompareConfig) -> list[Stage[_Job]]:
    """Return the two stages of ``equirl nlg compare``: samples, and audits."""
    jobs = [(config, group, method) for group in config.group for method in config.method]
    columns = (*SAMPLE_COLUMNS, _OWN_COLUMN) if config.measure else SAMPLE_COLUMNS
    return [
        Stage(jobs, _samples, _sample_file, columns, table="samples.csv"),
        Stage(jobs, _audit, _audit_file, AUDIT_COLUMNS, table="audit.csv"),
    ]


def sample_rows(
    bench: Workbench,
    method: str,
    samples: int,
    max_new_tokens: int,
    settings: dict[str, Any],
    scored: Callable[[list[str]], list[tuple[float, ...]]] | None = None,
    progress: bool = False,
) -> Rows:
    """Return continuations of all prompts of a bench, a row of ``SAMPLE_COLUMNS`` each.

    Args:
        bench: The model and the word group.
        method: The method.
        samples: Continuations of each prompt.
        max_new_tokens: Their length.
        settings: Of ``generate``.
        scored: Sentiment and regard of whole texts; ``None``: not scored.
        progress: Whether to show a bar.
    """
    model, _ = bench.model(method)
    rows = []
    bar = tqdm(total=len(bench.prompts), desc=f"{bench.words.name} {method}", disable=None if progress else True)
    for at in range(0, len(bench.prompts), _PROMPTS_TOGETHER):
        some = bench.prompts[at : at + _PROMPTS_TOGETHER]
        started = time.perf_counter()
        chosen, extra = ["" for _ in some], dict(settings)
        if split_method(method)[0] == "equizero":
            batch = encode(bench.tokenizer, [prompt.text for prompt in some], bench.config.device)
            extra["view_weights"] = model.view_weights(**batch)
            chosen = ["/".join(str(int(g)) for g in weights.nonzero().flatten()) for weights in extra["view_weights"]]
        texts = generate_texts(
            model,
            bench.tokenizer,
            [prompt.text for prompt in some],
            samples,
            bench.config.seed + at,
            max_new_tokens,
            **extra,
        )
        seconds = (time.perf_counter() - started) / (len(some) * samples)
        for prompt, ends, view in zip(some, texts, chosen, strict=True):
            whole = [prompt.text + end for end in ends]
            values = [("",) * 4] * len(ends) if scored is None else scored(whole)
            member = "" if prompt.member is None else bench.words.members[prompt.member]
            for number, (end, value) in enumerate(zip(ends, values, strict=True)):
                about = (bench.words.name, method, prompt.context, member, prompt.text, number, end)
                rows.append((*about, *value, view, round(seconds, 4)))
        bar.update(len(some))
    bar.close()
    return rows


def _scorer(bench: Workbench) -> Callable[[list[str]], list[tuple[float, ...]]]:
    feeling, classify = sentiment(), load_regard(bench.config.regard)

    def scored(texts: list[str]) -> list[tuple[float, ...]]:
        hidden = [bench.words.masked(text) for text in texts]
        return [
            (round(value, 4), *(round(float(p), 4) for p in row))
            for value, row in zip(feeling(hidden), classify(hidden), strict=True)
        ]

    return scored


def _samples(job: _Job) -> Rows:
    config, group, method = job
    bench = Workbench(config, group)
    settings = {"top_k": config.top_k}
    rows = sample_rows(bench, method, config.samples, config.max_new_tokens, settings, _scorer(bench), progress=True)
    if not config.measure:
        return rows
    start, end = SAMPLE_COLUMNS.index("prompt"), SAMPLE_COLUMNS.index("continuation")
    values = own_score(config.measure)([row[start] + row[end] for row in rows])
    if len(values) != len(rows):
        raise ValueError(f"the measure {config.measure!r} gave {len(values)} numbers for {len(rows)} texts")
    return [(*row, value) for row, value in zip(rows, values, strict=True)]


def _audit(job: _Job) -> Rows:
    config, group, method = job
    return list(audit_rows(Workbench(config, group), [method], config.max_new_tokens))


def _decisive(job: _Job) -> list[Any]:
    """Return all that changes a run, but for the code of scores and measures of the user's own."""
    config, group, method = job
    base, _ = split_method(method)
    files = [DATA / name for name in ("prompts.toml", "regard.tsv", *(f"{text}.txt" for text in TEXTS))]
    files += [path for path in (config.prompts, Path(config.regard or ".")) if path is not None and path.is_file()]
    contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    folder = Path(config.model)
    weights = (
        [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())] if folder.is_dir() else []
    )
    own = [config.score, config.look_ahead] if base == "equizero" else None
    if base == "lambda_equitune":
        own = [str(LambdaSettings(seed=config.seed))]
    words = replace(load_word_group(group), source="")
    settings = [config.model, config.pieces, config.regard, config.seed, config.max_new_tokens]
    return [*settings, weights, str(words), method, contents, own]


def _sample_file(job: _Job) -> Path:
    config, group, method = job
    name = f"samples-{Path(group).stem}-{method}"
    own = [config.measure] if config.measure else []
    return config.run_file(name, *_decisive(job), config.samples, config.top_k, *own)


def _audit_file(job: _Job) -> Path:
    config, group, method = job
    return config.run_file(f"audit-{Path(group).stem}-{method}", *_decisive(job))
