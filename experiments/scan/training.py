"""Training sequence models: teacher forcing, early stopping on held-out examples, checkpoints."""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from equirl.agents.cli.option_checks import check_counts, check_shares
from equirl.experiments.checkpoints import load_state, save_state
from equirl.experiments.scan.batches import ACTION_VOCABULARY, COMMAND_VOCABULARY, Batch, Examples
from equirl.experiments.scan.splits import Example
from equirl.files import DAMAGED, written_whole
from equirl.models.sequences import SequenceModel
from equirl.models.special_tokens import PAD
from equirl.testing import evaluation_mode

__all__ = ["Fit", "FitConfig", "accuracy", "fit", "hold_out", "load_checkpoint", "loss_of", "save_checkpoint"]

_EVALUATED_TOGETHER = 1024


@dataclass(frozen=True)
class FitConfig:
    """How long and how to train.

    Attributes:
        steps: Most gradient steps.
        batch_size: Commands in a gradient step.
        learning_rate: Of AdamW.
        check_every: Gradient steps between two looks at the held-out examples.
        patience: Looks without a lower loss after which training ends; the best weights are kept.
        teacher_forcing: Share of the gradient steps in which the right actions so far are given; in the others the
            model's own are.
        anneal: Whether the learning rate falls to zero along a half cosine.
        weight_decay: Share of each weight that is taken off in a step, times the learning rate (Loshchilov and Hutter
            2019).
    """

    steps: int
    batch_size: int
    learning_rate: float
    check_every: int
    patience: int
    teacher_forcing: float = 1.0
    anneal: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch_size", "check_every", "patience")
        check_shares(self, "teacher_forcing", zero=True)
        for name in ("learning_rate", "weight_decay"):  # at a rate of 0 a network stands still, as tests want it to
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more; got {getattr(self, name)}")


@dataclass
class Fit:
    """The state of a training, and in the end its outcome.

    Attributes:
        loss: Lowest loss on the held-out examples, in nats per action.
        weights: The model's weights there.
        best_step: The gradient step of these weights.
        steps: Gradient steps done.
        since: Looks at the held-out examples since the best one.
        seconds: Wall time.
        rest: Batches of this epoch that are still to come, each the rows of its examples.
    """

    loss: float
    weights: dict[str, Tensor]
    best_step: int = 0
    steps: int = 0
    since: int = 0
    seconds: float = 0.0
    rest: list[list[int]] = field(default_factory=list)


def loss_of(model: SequenceModel, batch: Batch) -> Tensor:
    """Return minus the log-probability of the right next action, mean over all places, in nats."""
    probabilities: Tensor = model(batch.sequences).gather(2, batch.target.unsqueeze(2)).squeeze(2)
    places = batch.target != PAD
    return -probabilities[places].clamp_min(1e-30).log().mean()


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Return examples for training and for early stopping: a random share of the different ones is held out.

    An example that stands many times is what a split is about; it is never held out.

    Raises:
        ValueError: A share that leaves no example to train on or none to hold out.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share that is held out must lie between 0 and 1; got {share}")
    copies = Counter(examples)
    different = sorted(copies, key=lambda example: example.command)
    order = torch.randperm(len(different), generator=torch.Generator().manual_seed(seed)).tolist()
    drawn = (different[row] for row in order[: round(share * len(different))])
    held_out = {example for example in drawn if copies[example] == 1}
    if not held_out:
        raise ValueError(f"{share:g} of {len(different)} different examples is none to hold out; give more examples")
    return [e for e in examples if e not in held_out], [e for e in different if e in held_out]


def fit(
    model: SequenceModel,
    train: Examples,
    held_out: Examples,
    config: FitConfig,
    seed: int,
    parameters: Iterable[nn.Parameter] | None = None,
    report: Callable[[int, float, float], None] | None = None,
    progress: str | None = None,
    resume: Path | None = None,
    judged: SequenceModel | None = None,
) -> Fit:
    """Train a model and leave it with the weights that did best on the held-out examples.

    Args:
        model: Any sequence model.
        train: Examples to learn from.
        held_out: Examples for early stopping.
        config: How.
        seed: Seed of the batches' order and of dropout.
        parameters: Those to train, the others keep their values; by default all of the model.
        report: Called at each look with the gradient steps so far, the training loss since the last look and the
            held-out loss.
        progress: Title of a progress bar on a terminal; ``None``: no bar.
        resume: File of the training's state, written at each look; a training that was stopped continues from it, and
            one that had ended is not done again. Whoever keeps the result removes the file.
        judged: Model used for early stopping, if not ``model``; it must share its weights.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    trained = list(model.parameters() if parameters is None else parameters)
    optimizer = torch.optim.AdamW(trained, lr=config.learning_rate, weight_decay=config.weight_decay)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR
    rates: Any = cosine(optimizer, config.steps) if config.anneal else None
    parts = {"weights": model, "optimizer": optimizer, "rates": rates}
    judged = judged or model
    if resume is not None and resume.exists():
        at = Fit(**load_state(resume, parts, generator))
    else:
        at = Fit(_held_out_loss(judged, held_out), copy.deepcopy(model.state_dict()))
    started = time.perf_counter() - at.seconds
    losses: list[Tensor] = []
    # tqdm's None: a bar where there is a terminal.
    bar = tqdm(total=config.steps, desc=progress, disable=True if progress is None else None, unit=" steps")
    with _only(trained, model), bar:
        bar.update(at.steps)
        model.train()
        while at.steps < config.steps and at.since < config.patience:
            at.rest = at.rest or train.shuffled(config.batch_size, generator)
            batch = train.batch(at.rest.pop(0))
            if float(torch.rand((), generator=generator)) >= config.teacher_forcing:
                batch = _own(model, batch)
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(trained, 5.0)
            optimizer.step()
            if rates is not None:
                rates.step()
            losses.append(loss.detach())
            at.steps += 1
            bar.update()
            if at.steps % config.check_every == 0 or at.steps == config.steps:
                value = _held_out_loss(judged, held_out)
                at.since += 1
                if value < at.loss:
                    at.loss, at.best_step, at.since = value, at.steps, 0
                    at.weights = copy.deepcopy(model.state_dict())
                at.seconds = time.perf_counter() - started
                if report is not None:
                    report(at.steps, float(torch.stack(losses).mean()), value)
                bar.set_postfix(held_out=f"{value:.4f}")
                losses.clear()
                if resume is not None:
                    save_state(resume, parts, generator, **vars(at))
    model.load_state_dict(at.weights)
    model.eval()
    at.seconds = time.perf_counter() - started
    return at


@contextmanager
def _only(trained: list[nn.Parameter], model: nn.Module) -> Iterator[None]:
    """Let the other parameters of a model rest."""
    ours = {id(parameter) for parameter in trained}
    resting = [p for p in model.parameters() if id(p) not in ours and p.requires_grad]
    for parameter in resting:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in resting:
            parameter.requires_grad_(True)


@torch.no_grad()
def accuracy(model: SequenceModel, examples: Examples) -> float:
    """Return the share of commands that the model answers greedily without any mistake; its modes stay as they are."""
    right = 0
    with evaluation_mode(model):
        for batch in examples.in_order(_EVALUATED_TOGETHER):
            longest = batch.target.shape[1]
            answers = nn.functional.pad(model.greedy(batch.command, longest + 1), (0, longest + 1))
            right += int((answers[:, :longest] == batch.target).all(dim=1).sum())
    return right / len(examples)


def save_checkpoint(path: Path, model: nn.Module, about: dict[str, Any]) -> None:
    """Write a model's weights with what they belong to; whole or not at all."""
    vocabularies = {"words": COMMAND_VOCABULARY.tokens, "actions": ACTION_VOCABULARY.tokens}
    with written_whole(path) as temporary:
        torch.save({"weights": model.state_dict(), "about": about, **vocabularies}, temporary)


def load_checkpoint(path: Path, model: nn.Module) -> dict[str, Any]:
    """Load weights into a model, and return what was saved about them.

    Raises:
        FileNotFoundError: There is none.
        ValueError: No checkpoint of this kind, one of another vocabulary, or weights of another model.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there; run the same command again to pretrain it (workers of a cluster need a folder that "
            "they all see: give --out as such a path)"
        )
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        about, weights = dict(saved["about"]), saved["weights"]
        vocabularies = {kind: list(saved[kind]) for kind in ("words", "actions")}
    except DAMAGED as error:
        raise ValueError(f"{path} is no checkpoint of a SCAN model ({type(error).__name__} on reading it)") from error
    for kind, ours in (("words", COMMAND_VOCABULARY.tokens), ("actions", ACTION_VOCABULARY.tokens)):
        if vocabularies[kind] != list(ours):
            raise ValueError(
                f"{path} was trained with the {kind} {vocabularies[kind]}, this model has {list(ours)}; train it again "
                "with this vocabulary"
            )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{path} holds the weights of another model (saved: {about}): {error}") from error
    return about


@torch.no_grad()
def _held_out_loss(model: SequenceModel, examples: Examples) -> float:
    total, places = 0.0, 0
    with evaluation_mode(model):
        for batch in examples.in_order(_EVALUATED_TOGETHER):
            n = int((batch.target != PAD).sum())
            total, places = total + float(loss_of(model, batch)) * n, places + n
    return total / places


@torch.no_grad()
def _own(model: SequenceModel, batch: Batch) -> Batch:
    """Return the batch with the model's own actions as its prefix, cut to the right length."""
    own = model.greedy(batch.command, batch.target.shape[1])
    own = nn.functional.pad(own, (1, batch.target.shape[1] - own.shape[1]))[:, : batch.target.shape[1]]
    own[:, 0] = batch.prefix[:, 0]
    # Where the right answer goes on, something is asked for, even if the model thought it was over.
    return Batch(batch.command, torch.where(batch.prefix == PAD, PAD, own.clamp_min(1)), batch.target)
