"""Fitting λ alone: one loop with early stopping for agents, language models and images; the backbone stays as it is."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from equirl.arguments import real_number, whole_number

__all__ = ["FitSettings", "LambdaFitReport", "drawn_batches", "epochs_of_batches", "fit_weights"]


@dataclass(frozen=True)
class FitSettings:
    """How a λ-network is fitted.

    Attributes:
        steps: Gradient steps at most.
        batch_size: Samples in a gradient step.
        learning_rate: Adam's learning rate.
        holdout: Share of the samples kept for early stopping.
        patience: Looks in a row without enough gain after which the fit ends.
        seed: Seed of split and batches.

    Raises:
        TypeError: A setting that is no number.
        ValueError: A setting out of its range.
    """

    steps: int = 2000
    batch_size: int = 256
    learning_rate: float = 3e-3
    holdout: float = 0.1
    patience: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "patience"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name, 1))
        object.__setattr__(self, "seed", whole_number(self.seed, "seed", 0))
        real_number(self.learning_rate, "learning_rate", above=0)
        if not real_number(self.holdout, "holdout", above=0, most=1) < 1:
            raise ValueError(f"holdout is a share below 1, as nothing would be left to fit on; got {self.holdout}")


@dataclass(frozen=True)
class LambdaFitReport:
    """How a fit went.

    Attributes:
        steps: Gradient steps taken.
        seconds: Wall-clock seconds.
        initial_loss: Held-out loss before the first step.
        loss: Held-out loss of the λ that was kept.
        n_samples: Samples fitted on, the held-out ones included.
    """

    steps: int
    seconds: float
    initial_loss: float
    loss: float
    n_samples: int

    def __str__(self) -> str:
        return (
            f"λ fitted on {self.n_samples:,} samples: held-out loss {self.initial_loss:.4f} -> {self.loss:.4f} in "
            f"{self.steps} steps, {self.seconds:.1f} s"
        )


@torch.enable_grad()
def fit_weights(
    network: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    held_out_loss: Callable[[], float],
    batches: Iterator[Tensor],
    settings: FitSettings,
    *,
    look_every: int,
    n_samples: int,
    least_gain: float = 0.0,
    keep_start: bool = True,
    note: Callable[[int, float, float], None] | None = None,
) -> LambdaFitReport:
    """Fit the parameters of an aggregator by Adam, and leave it with those that did best on held-out samples.

    A fit that is broken off leaves the best parameters so far.

    Args:
        network: The aggregator, or λ itself.
        loss_of: Loss of a batch of rows, a scalar with a gradient.
        held_out_loss: Loss on the held-out samples, as things are.
        batches: Rows of each gradient step.
        settings: Settings; ``holdout`` and ``batch_size`` are the caller's to use.
        look_every: Gradient steps between two looks at the held-out samples.
        n_samples: Number of samples, for the report.
        least_gain: Share by which a look must better the best loss to count as a gain.
        keep_start: Whether the parameters before the first step compete.
        note: Called at each look with the steps so far, the mean training loss since the last look and the held-out
            loss.

    Raises:
        ValueError: The held-out loss is not finite before the first step.
    """
    started = time.perf_counter()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    initial = held_out_loss()
    if not math.isfinite(initial):
        raise ValueError(
            f"the held-out loss of λ is {initial} before the first step: the network's outputs on these samples are "
            "not finite. Look at its weights, and at the samples"
        )
    best = initial if keep_start else math.inf
    kept = copy.deepcopy(network.state_dict())
    stale = step = 0
    losses: list[Tensor] = []
    try:
        for step, rows in enumerate(itertools.islice(batches, settings.steps), 1):
            optimizer.zero_grad()
            loss = loss_of(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            if step % look_every and step < settings.steps:
                continue
            value = held_out_loss()
            if note is not None:
                note(step, float(torch.stack(losses).mean()), value)
            losses.clear()
            stale = 0 if value < (1 - least_gain) * best else stale + 1
            if value < best:
                best, kept = value, copy.deepcopy(network.state_dict())
            if stale >= settings.patience:
                break
    finally:
        network.load_state_dict(kept)
        network.zero_grad(set_to_none=True)
    return LambdaFitReport(step, time.perf_counter() - started, initial, best, n_samples)


def drawn_batches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches drawn with replacement from rows ``[N]``, without end."""
    while True:
        yield rows[torch.randint(len(rows), (min(size, len(rows)),), generator=generator)]


def epochs_of_batches(rows: Tensor, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield batches of rows ``[N]``, each row once in an epoch and in another order each time, without end."""
    while True:
        yield from rows[torch.randperm(len(rows), generator=generator)].split(size)  # type: ignore[no-untyped-call]
