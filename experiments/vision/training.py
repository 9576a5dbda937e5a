"""Training of whole networks on images, by one process or several, resumable, with curves for TensorBoard."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from equirl.arguments import whole_number
from equirl.experiments.checkpoints import curves, load_state, save_state
from equirl.experiments.vision.config import FinetuneConfig
from equirl.experiments.vision.image_sets import ImageSet, read_images
from equirl.files import load_weights, written_whole
from equirl.models.image_classifier import check_labels
from equirl.optional import VISION, needed

__all__ = ["board", "is_main_process", "join_processes", "main_process_first", "n_processes"]
__all__ += ["train_images", "train_or_read"]


@torch.enable_grad()
def train_images(
    model: nn.Module,
    read: Callable[[Tensor], Tensor],
    labels: Tensor,
    seed: int,
    steps: int,
    learning_rate: float,
    batch_size: int = 64,
    accumulate: int = 1,
    turned: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    progress: str | None = None,
    mixed_precision: str = "no",
    device: str = "cpu",
    resume: Path | None = None,
    report: Callable[[int, float], None] | None = None,
) -> None:
    """Train all parameters of a network on images, by the cross-entropy of its logits, with ``accelerate``.

    Args:
        model: Network ``[N, 3, S, S] -> [N, K]``; its λ, if it has one, is trained along.
        read: Function from numbers of images ``[n]`` to the images, ``[n, 3, S, S]``.
        labels: Classes, integers ``[N]``.
        seed: Seed of batches and turns.
        steps: Gradient steps.
        learning_rate: AdamW's learning rate; it falls to zero along a half cosine.
        batch_size: Images in a batch, on each device.
        accumulate: Batches in a gradient step.
        turned: Function that turns a batch at random.
        progress: Text of the progress bar; ``None``: no bar.
        mixed_precision: ``"no"``, ``"fp16"`` or ``"bf16"``.
        device: ``"cpu"``, or anything else for the devices that ``accelerate`` finds.
        resume: File of the training's state; a training that was stopped continues from it.
        report: Function that gets the step and the mean loss every 50 steps.

    Raises:
        ValueError: No labels, negative ones, or a setting out of range.
    """
    for name, number in (("steps", steps), ("batch_size", batch_size), ("accumulate", accumulate)):
        whole_number(number, name, 1)
    if not 0 <= learning_rate < math.inf:
        raise ValueError(f"learning_rate must be a finite number, 0 or more; got {learning_rate}")
    if not len(labels):
        raise ValueError("a network is trained on at least one labelled image; there are none")
    check_labels(labels, len(labels), int(labels.max()) + 1)
    accelerate = needed("accelerate", VISION)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # for a single process; several processes have a device each
    accelerator = accelerate.Accelerator(
        cpu=device == "cpu", mixed_precision=mixed_precision, gradient_accumulation_steps=accumulate
    )
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    rates: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    stateful = {"weights": model, "optimizer": optimizer, "rates": rates, "scaler": accelerator.scaler}
    done = 0
    if resume is not None and resume.exists():
        done = load_state(resume, stateful, generator)["done"]
    wrapped, prepared = accelerator.prepare(model, optimizer)
    wrapped.train()
    losses: list[Tensor] = []
    # tqdm's None: a bar where there is a terminal.
    quiet = True if progress is None or not is_main_process() else None
    for step in tqdm(range(done, steps), initial=done, total=steps, desc=progress, disable=quiet):
        for _ in range(accumulate):
            rows = torch.randint(len(labels), (batch_size * accelerator.num_processes,), generator=generator)
            rows = rows[accelerator.process_index :: accelerator.num_processes]
            batch = read(rows) if turned is None else turned(read(rows), generator)
            with accelerator.accumulate(wrapped):
                logits = wrapped(batch.to(accelerator.device))
                loss = nn.functional.cross_entropy(logits, labels[rows].to(accelerator.device))
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(wrapped.parameters(), 5.0)
                prepared.step()
                prepared.zero_grad()
            losses.append(loss.detach())
        rates.step()
        if (step + 1) % 50 == 0:
            mean = float(torch.stack(losses).mean())
            losses.clear()
            if resume is not None and accelerator.is_main_process:
                save_state(resume, stateful, generator, done=step + 1)
            if report is not None:
                report(step + 1, mean)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False).eval()


def train_or_read(
    model: nn.Module, path: Path, config: FinetuneConfig, images: ImageSet, size: int, **settings: Any
) -> None:
    """Read a network's weights from a file, or train it with ``settings`` of ``train_images`` and write the file.

    The state of an unfinished training is beside the file; a training that was stopped continues.
    """
    if path.exists():
        load_weights(model, path)
        model.eval()
        return
    state = path.with_suffix(".part")
    with board(config.out / "tb" / path.stem) as note:
        train_images(
            model,
            lambda rows: read_images(images, rows.tolist(), size),
            torch.from_numpy(images.labels),
            **settings,
            batch_size=config.batch_size,
            progress=path.stem,
            mixed_precision=config.mixed_precision,
            device=config.device,
            resume=state,
            report=lambda step, loss: note("loss/train", step, loss),
        )
    with written_whole(path) as temporary:
        torch.save({name: value.cpu() for name, value in model.state_dict().items()}, temporary)
    state.unlink(missing_ok=True)


def n_processes() -> int:
    """Return how many processes train one network together, as ``accelerate launch`` or ``torchrun`` started them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this is the only process, or the first of several, which reports."""
    return int(os.environ.get("RANK", "0")) == 0


def join_processes(device: str) -> Any:
    """Meet the other processes and return accelerate's state of them; ``None`` if there are none.

    This comes before all else, as it sets how long they wait for each other.
    """
    if n_processes() == 1:
        return None
    return needed("accelerate", VISION).PartialState(cpu=device == "cpu", timeout=timedelta(days=7))


def main_process_first(device: str) -> AbstractContextManager[None]:
    """Return a context in which the main process does a block, and then the others, which find its work done."""
    state = join_processes(device)
    return nullcontext() if state is None else state.main_process_first()


def board(folder: Path) -> AbstractContextManager[Callable[[str, int, float], None]]:
    """Return TensorBoard's ``curves`` in the main process, and in the others what writes nothing."""
    return curves(folder) if is_main_process() else nullcontext(lambda name, step, value: None)
