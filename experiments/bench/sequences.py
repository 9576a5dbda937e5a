"""Training of sequence models on SCAN: sequences a second in batches, and one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from equirl.experiments.bench.timing import Measurement, Settings, compare
from equirl.experiments.scan.batches import Batch, Examples
from equirl.experiments.scan.models import make_model
from equirl.experiments.scan.splits import make_split
from equirl.experiments.scan.symmetries import make_symmetry
from equirl.experiments.scan.training import loss_of
from equirl.experiments.scan.vocabulary import COMMAND_VOCABULARY
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SequenceModel, SymmetrizedSequenceModel

__all__ = ["SEQUENCES", "measure_sequences"]

SEQUENCES = "SCAN gradient step, per sequence"

_BATCH = 64


def measure_sequences(settings: Settings) -> Iterator[Measurement]:
    """Yield seconds per command of a gradient step: one command at a time, and 64 of like length together."""
    examples = Examples(make_split("addprim_jump").train[: 20 * _BATCH], settings.device)
    batches = list(examples.at_random(_BATCH, torch.Generator().manual_seed(0)))
    rows = torch.arange(4 if settings.quick else 40)
    symmetry = make_symmetry("jump-run")

    def plain() -> SequenceModel:
        torch.manual_seed(0)
        return make_model("lstm").to(settings.device)

    def equitune() -> SequenceModel:
        aggregator = make_sequence_aggregator("equitune", len(COMMAND_VOCABULARY))
        return SymmetrizedSequenceModel(make_model("lstm"), symmetry, aggregator).to(settings.device)

    together = [batches[0]] if settings.quick else batches[:: len(batches) // 4]
    alone = [examples.batch(row[None]) for row in rows]
    cases = {
        "plain": (_steps(plain(), together), sum(len(batch.command) for batch in together)),
        "equitune": (_steps(equitune(), together), sum(len(batch.command) for batch in together)),
        "plain, one at a time": (_steps(plain(), alone), len(alone)),
    }
    timed = {name: case for name, (case, _) in cases.items()}
    measured = compare(timed, replace(settings, min_seconds=0), SEQUENCES, "C2", "lstm", 64, _BATCH)
    numbers = {name: n for name, (_, n) in cases.items()}
    for row in measured:
        per_one = numbers[row.method]
        yield replace(
            row,
            group="C2" if row.method == "equitune" else "-",
            batch=1 if row.method == "plain, one at a time" else _BATCH,
            seconds=row.seconds / per_one,
            seconds_low=row.seconds_low / per_one,
            seconds_high=row.seconds_high / per_one,
            ratio_to_plain=row.ratio_to_plain * numbers["plain"] / per_one,
        )


def _steps(model: SequenceModel, batches: list[Batch]) -> Callable[[], Tensor]:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def run() -> Tensor:
        loss = torch.zeros(())
        for batch in batches:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return loss

    return run
