"""Fitting λ of a symmetrized language model: its backbone stays as it is and is asked once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equirl.aggregators import Weighted
from equirl.arguments import check_texts, whole_number
from equirl.lambda_fit import FitSettings, LambdaFitReport, epochs_of_batches, fit_weights
from equirl.models.causal_lm import SymmetrizedLM
from equirl.models.lm_texts import encode, prompt_length
from equirl.testing import evaluation_mode

__all__ = ["LambdaSettings", "fit_lambda"]

_TOGETHER = 8


@dataclass(frozen=True)
class LambdaSettings(FitSettings):
    """How λ is fitted on the plain model's own continuations; samples are places of texts.

    Attributes:
        samples: Continuations of each prompt.
        max_new_tokens: Length of a continuation.
        epochs: Passes over all places at most; ``steps`` bounds them too.
    """

    steps: int = 1_000_000
    holdout: float = 0.2
    patience: int = 8
    samples: int = 8
    max_new_tokens: int = 15
    epochs: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("samples", "max_new_tokens", "epochs"):
            whole_number(getattr(self, name), name, 1)


def fit_lambda(
    model: SymmetrizedLM, tokenizer: Any, texts: list[str], prompts: list[str], settings: LambdaSettings
) -> LambdaFitReport:
    """Fit λ so that texts become probable: ``max_λ sum log sum_g w_λ(g x_t) P(g x_{t+1} | g x_<=t)``.

    Some texts are held out for early stopping. Texts whose prompt and continuation share a token are left out.

    Args:
        model: With λ-equitune.
        tokenizer: Its tokenizer.
        texts: Texts to make probable, each with its prompt first; the model's own continuations, for instance.
        prompts: The prompt of each text; only what follows it counts.
        settings: How.

    Raises:
        ValueError: Too few texts to hold any out, another number of prompts, or no text with anything after its prompt.
        TypeError: A model without λ, or one text in place of a list.
    """
    check_texts(texts, "texts")
    check_texts(prompts, "prompts")
    if not isinstance(model.aggregator, Weighted):
        raise TypeError(f"λ is fitted of a model with λ-equitune; this one has {type(model.aggregator).__name__}")
    if len(texts) != len(prompts):
        raise ValueError(f"each text needs its prompt; got {len(texts)} texts and {len(prompts)} prompts")
    if len(texts) < 2:
        raise ValueError(f"λ is fitted on at least 2 texts, one of them held out; got {len(texts)}")
    generator = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(texts), generator=generator).tolist()
    held_out = set(order[: min(len(texts) - 1, max(1, round(settings.holdout * len(texts))))])
    with evaluation_mode(model):
        hidden, probabilities = _places(model, tokenizer, texts, prompts, lambda row: row not in held_out)
        judged = _places(model, tokenizer, texts, prompts, lambda row: row in held_out)
    per_epoch = math.ceil(len(hidden) / settings.batch_size)
    return fit_weights(
        model.aggregator,
        lambda rows: _nll(model, hidden[rows], probabilities[rows]),
        lambda: _loss(model, *judged),
        epochs_of_batches(torch.arange(len(hidden)), settings.batch_size, generator),
        replace(settings, steps=min(settings.steps, settings.epochs * per_epoch)),
        look_every=per_epoch,
        n_samples=len(hidden) + len(judged[0]),
    )


@torch.no_grad()
def _places(
    model: SymmetrizedLM, tokenizer: Any, texts: list[str], prompts: list[str], wanted: Any
) -> tuple[Tensor, Tensor]:
    """Return hidden states ``[N, |G|, H]`` of places, and each view's probability of the next token, ``[N, |G|]``."""
    rows = [row for row in range(len(texts)) if wanted(row)]
    hidden_states, probabilities = [], []
    device = next(model.parameters()).device
    for at in range(0, len(rows), _TOGETHER):
        some = rows[at : at + _TOGETHER]
        batch = encode(tokenizer, [texts[row] for row in some], device)
        ids, mask = batch["input_ids"], batch["attention_mask"]
        views = model.views(ids)
        repeated = mask.repeat_interleave(model.order, dim=0)
        positions = (repeated.cumsum(dim=1) - 1).clamp_min(0)
        outputs = model.backbone(
            input_ids=views, attention_mask=repeated, position_ids=positions, output_hidden_states=True
        )
        logs = outputs.logits[:, :-1].float().log_softmax(dim=-1).gather(2, views[:, 1:].unsqueeze(2)).squeeze(2)
        for place, row in enumerate(some):
            length = prompt_length(tokenizer, prompts[row], ids[place][mask[place] == 1].tolist())
            if length is None:
                continue
            start = ids.shape[1] - int(mask[place].sum()) + length - 1
            mine = slice(place * model.order, (place + 1) * model.order)
            hidden_states.append(outputs.hidden_states[-1][mine, start:-1].float().transpose(0, 1))
            probabilities.append(logs[mine, start:].exp().transpose(0, 1))
    if not hidden_states:
        raise ValueError("none of the texts for λ has anything after its prompt")
    return torch.cat(hidden_states), torch.cat(probabilities)


def _nll(model: SymmetrizedLM, hidden: Tensor, probabilities: Tensor) -> Tensor:
    return -(model.place_weights(hidden) * probabilities).sum(dim=1).clamp_min(1e-30).log().mean()


@torch.no_grad()
def _loss(model: SymmetrizedLM, hidden: Tensor, probabilities: Tensor) -> float:
    return float(_nll(model, hidden, probabilities))
