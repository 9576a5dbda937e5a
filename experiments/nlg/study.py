"""``equirl nlg compare``: continuations of all methods, scored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from equirl.experiments.nlg.config import CompareConfig, split_method
from equirl.experiments.nlg.measurements import AUDIT_COLUMNS, SAMPLE_COLUMNS, audit_rows, sample_rows
from equirl.experiments.nlg.scores import load_regard, own_score, sentiment
from equirl.experiments.nlg.texts import DATA, TEXTS
from equirl.experiments.nlg.workbench import Workbench
from equirl.experiments.study import Stage
from equirl.experiments.tables import Rows
from equirl.models.lm_lambda_fit import LambdaSettings
from equirl.models.word_groups import load_word_group

__all__ = ["Job", "compare_stages"]


class Job(NamedTuple):
    """One run: a method over a word group."""

    config: CompareConfig
    group: str
    method: str

    def samples(self) -> Rows:
        """Return a row of samples for each continuation, with the user's own measure where there is one."""
        config = self.config
        bench, settings = Workbench(config, self.group), {"top_k": config.top_k}
        rows = sample_rows(bench, self.method, config.samples, config.max_new_tokens, settings, _scorer(bench))
        if not config.measure:
            return rows
        start, end = SAMPLE_COLUMNS.index("prompt"), SAMPLE_COLUMNS.index("continuation")
        values = own_score(config.measure)([row[start] + row[end] for row in rows])
        if len(values) != len(rows):
            raise ValueError(f"the measure {config.measure!r} gave {len(values)} numbers for {len(rows)} texts")
        return [(*row, value) for row, value in zip(rows, values, strict=True)]

    def audit(self) -> Rows:
        """Return a row of the audit for each prompt."""
        return list(audit_rows(Workbench(self.config, self.group), [self.method], self.config.max_new_tokens))

    def sample_file(self) -> Path:
        """Return the file of the samples."""
        config, name = self.config, f"samples-{Path(self.group).stem}-{self.method}"
        own = [config.measure] if config.measure else []
        return config.run_file(name, *self._decisive(), config.samples, config.top_k, *own)

    def audit_file(self) -> Path:
        """Return the file of the audit."""
        return self.config.run_file(f"audit-{Path(self.group).stem}-{self.method}", *self._decisive())

    def _decisive(self) -> list[Any]:
        """Return all that changes a run, but for the code of scores and measures of the user's own."""
        config, base = self.config, split_method(self.method)[0]
        files = [DATA / name for name in ("prompts.toml", "regard.tsv", *(f"{text}.txt" for text in TEXTS))]
        files += [path for path in (config.prompts, Path(config.regard or ".")) if path is not None and path.is_file()]
        contents = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        folder = Path(config.model)
        parts = sorted(folder.iterdir()) if folder.is_dir() else []
        weights = [(part.name, part.stat().st_size, part.stat().st_mtime_ns) for part in parts]
        own = [config.score, config.look_ahead] if base == "equizero" else None
        if base == "lambda_equitune":
            own = [str(LambdaSettings(seed=config.seed))]
        words = replace(load_word_group(self.group), source="")
        settings = [config.model, config.pieces, config.regard, config.seed, config.max_new_tokens]
        return [*settings, weights, str(words), self.method, contents, own]


def compare_stages(config: CompareConfig) -> list[Stage[Job]]:
    """Return the two stages of ``equirl nlg compare``: samples, and audits."""
    jobs = [Job(config, group, method) for group in config.group for method in config.method]
    columns = (*SAMPLE_COLUMNS, "own") if config.measure else SAMPLE_COLUMNS
    return [
        Stage(jobs, Job.samples, Job.sample_file, columns, table="samples.csv"),
        Stage(jobs, Job.audit, Job.audit_file, AUDIT_COLUMNS, table="audit.csv"),
    ]


def _scorer(bench: Workbench) -> Callable[[list[str]], list[tuple[float, ...]]]:
    feeling, classify = sentiment(), load_regard(bench.config.regard)

    def scored(texts: list[str]) -> list[tuple[float, ...]]:
        hidden = [bench.words.masked(text) for text in texts]
        return [
            (round(value, 4), *(round(float(p), 4) for p in row))
            for value, row in zip(feeling(hidden), classify(hidden), strict=True)
        ]

    return scored
