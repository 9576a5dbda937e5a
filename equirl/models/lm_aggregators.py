"""Aggregators for language models: equitune, λ-equitune, and equizero by looking ahead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from equirl.aggregators import Aggregator, Mean, Weighted, weight_network
from equirl.arguments import whole_number
from equirl.eager import eager
from equirl.names import ORBIT_METHODS, unknown_name_message
from equirl.orbit import Orbit
from equirl.testing import evaluation_mode
from equirl.weights import pick_least

__all__ = ["LookAhead", "make_lm_aggregator"]

_LAMBDA_WIDTHS = (32,)


class LookAhead(Aggregator):
    """Equizero for text: each view is continued greedily for some tokens, and the one of the least loss is taken.

    Views with the same loss are averaged, so that the choice is equivariant on ties too.

    Args:
        loss: From texts (prompt and continuation, in the view's own words) to one number each; lower is better.
        decode: From tokens ``[N, T]`` to texts.
        tokens: How many to look ahead.
        pad_token_id: Token that fills a continuation after its end.

    Raises:
        ValueError: No token to look ahead.
        TypeError: A loss or a decoding that cannot be called.
    """

    def __init__(
        self,
        loss: Callable[[list[str]], Sequence[float]],
        decode: Callable[[Tensor], list[str]],
        tokens: int,
        pad_token_id: int = 0,
    ) -> None:
        super().__init__()
        whole_number(tokens, "the number of tokens to look ahead", 1)
        for name, function in (("loss", loss), ("decode", decode)):
            if not callable(function):
                raise TypeError(f"{name} must be a function of texts or tokens; got {function!r}")
        self.loss = loss
        self.decode = decode
        self.tokens = tokens
        self.pad_token_id = pad_token_id

    @torch.no_grad()
    def of_views(self, backbone: Any, views: Tensor, attention_mask: Tensor, order: int) -> Tensor:
        """Return the weights ``[B, |G|]`` of views ``[B |G|, T]``.

        Raises:
            TypeError: While a graph is recorded, which would keep the choice of one prompt.
            ValueError: The loss gives other than a finite number for each text.
        """
        if not eager(views):
            raise TypeError(
                "equizero continues prompts and reads texts to choose a view, which no exported or traced graph can "
                "do: give the model view_weights, as model.view_weights(input_ids) returns them"
            )
        with evaluation_mode(backbone):  # dropout would make the choice another one at each call
            answers = backbone.generate(
                views,
                attention_mask=attention_mask,
                max_new_tokens=self.tokens,
                do_sample=False,
                num_beams=1,
                pad_token_id=self.pad_token_id,
            )
        found = torch.tensor(list(self.loss(self.decode(answers))), dtype=torch.float32, device=views.device)
        if len(found) != len(views) or not bool(found.isfinite().all()):
            raise ValueError(
                f"the score of texts must give one finite number for each of {len(views)} texts; it gave "
                f"{found.tolist()[:5]}{' ...' if len(found) > 5 else ''} ({len(found)} of them)"
            )
        return pick_least(found.view(-1, order))

    def weights(self, orbit: Orbit) -> Tensor:
        """Refuse: one output does not tell which view to continue; ``of_views`` looks ahead.

        Raises:
            TypeError: Always.
        """
        raise TypeError("LookAhead chooses views of prompts by their continuations: call of_views")


def make_lm_aggregator(
    method: str,
    backbone: Any,
    loss: Callable[[list[str]], Sequence[float]] | None = None,
    decode: Callable[[Tensor], list[str]] | None = None,
    look_ahead: int = 10,
    pad_token_id: int = 0,
) -> Aggregator:
    """Return the aggregator of a method for a language model.

    Args:
        method: One of ``ORBIT_METHODS``.
        backbone: The language model.
        loss: Equizero's loss; see ``LookAhead``.
        decode: The tokenizer's decoding, for equizero.
        look_ahead: Tokens that equizero looks ahead.
        pad_token_id: The tokenizer's padding token, for equizero.

    Raises:
        ValueError: Unknown method, or equizero without what it needs.
    """
    if method == "equitune":
        return Mean()
    if method == "lambda_equitune":
        return Weighted(weight_network(backbone.config.get_text_config().hidden_size, _LAMBDA_WIDTHS))
    if method != "equizero":
        raise ValueError(unknown_name_message("method", method, ORBIT_METHODS))
    if loss is None or decode is None:
        raise ValueError("equizero needs a loss of texts and the tokenizer's decode")
    return LookAhead(loss, decode, look_ahead, pad_token_id)
