"""Fitting λ of a symmetrized language model: its backbone stays as it is and is asked once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from equirl.experiments.nlg.measures import encode
from equirl.experiments.nlg.symmetrized import SymmetrizedLM

__all__ = ["LambdaFit", "fit_lambda"]

_TOGETHER = 8
_HELD_OUT = 0.2
_EPOCHS = 60
_PATIENCE = 8
_BATCH = 256


class LambdaFit(NamedTuple):
    """What came of fitting λ.

    Attributes:
        places: Places of texts that it was fitted on and judged by.
        before: Loss with constant weights (equitune) on the held-out places, in nats per token.
        after: Loss with the fitted λ there.
    """

    places: int
    before: float
    after: float


def fit_lambda(model: SymmetrizedLM, tokenizer: Any, texts: list[str], prompts: list[str], seed: int) -> LambdaFit:
    """Fit λ so that texts become probable: ``max_λ sum log sum_g w_λ(g x_t) P(g x_{t+1} | g x_<=t)``.

    A fifth of the texts is held out for early stopping.

    Args:
        model: With λ-equitune.
        tokenizer: Its tokenizer.
        texts: What is to be probable, each beginning with its prompt; the model's own continuations for instance.
        prompts: The prompt of each text; only what follows it counts.
        seed: Of the split and of the batches.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(texts), generator=generator).tolist()
    held_out = set(order[: max(1, round(_HELD_OUT * len(texts)))])
    hidden, probabilities = _places(model, tokenizer, texts, prompts, lambda row: row not in held_out)
    judged = _places(model, tokenizer, texts, prompts, lambda row: row in held_out)
    network = model.aggregator
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    before = best = _loss(model, *judged)
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    since = 0
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(hidden), generator=generator).split(_BATCH):  # type: ignore[no-untyped-call]
            loss = _nll(model, hidden[rows], probabilities[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        value = _loss(model, *judged)
        since += 1
        if value < best:
            best, since = value, 0
            weights = {name: value.clone() for name, value in network.state_dict().items()}
        if since >= _PATIENCE:
            break
    network.load_state_dict(weights)
    return LambdaFit(len(hidden) + len(judged[0]), before, best)


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
            length = len(tokenizer(prompts[row])["input_ids"])
            start = ids.shape[1] - int(mask[place].sum()) + length - 1
            mine = slice(place * model.order, (place + 1) * model.order)
            hidden_states.append(outputs.hidden_states[-1][mine, start:-1].transpose(0, 1))
            probabilities.append(logs[mine, start:].exp().transpose(0, 1))
    return torch.cat(hidden_states), torch.cat(probabilities)


def _nll(model: SymmetrizedLM, hidden: Tensor, probabilities: Tensor) -> Tensor:
    return -(model.place_weights(hidden) * probabilities).sum(dim=1).clamp_min(1e-30).log().mean()


@torch.no_grad()
def _loss(model: SymmetrizedLM, hidden: Tensor, probabilities: Tensor) -> float:
    return float(_nll(model, hidden, probabilities))
