"""A causal language model made equivariant: ``P(g v | g x) = P(v | x)``, usable wherever ``generate()`` is."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel

from equirl.aggregators import Aggregator, Weighted
from equirl.eager import eager
from equirl.models.lm_aggregators import LookAhead, make_lm_aggregator
from equirl.models.saved_lm import load_symmetrized, save_symmetrized
from equirl.models.token_actions import TokenAction

__all__ = ["LookAhead", "SymmetrizedLM", "make_lm_aggregator"]

_LEAST_PROBABILITY = 1e-30
_VIEWS = "equirl_view_weights"  # where a cache keeps the weights of the views that it is of
_WAYS_OUT = "start without a cache, or continue one that this model's generate returned"


class SymmetrizedLM(PreTrainedModel, GenerationMixin):  # type: ignore[misc, no-untyped-call, unused-ignore]
    """``P_G(v | x) = sum_g w(gx) P(gv | gx)``, mixed over the whole orbit in one batched call, key-value cache and all.

    Equitune weighs all views alike; λ-equitune by a network that reads the last hidden state of each place of each
    view; equizero takes one view for each prompt (``view_weights``; ``generate`` chooses it), and runs no others unless
    some prompt of the batch has ties. The logits are the logarithms of the mixture.

    Args:
        backbone: A causal language model of ``transformers``, used as it is.
        action: How the group moves its tokens; copied, so that it may follow the model to another device.
        aggregator: ``Mean``, ``Weighted`` (of features) or ``LookAhead``; see ``make_lm_aggregator``.

    Raises:
        ValueError: The action moves another number of tokens than the backbone scores.
    """

    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, backbone: Any, action: TokenAction, aggregator: Aggregator) -> None:
        super().__init__(backbone.config)
        scored, moved = backbone.get_output_embeddings().weight.shape[0], action.tokens.table.shape[1]
        if scored != moved:
            raise ValueError(
                f"the action moves {moved} tokens, but the backbone scores {scored}; make it by token_action(words, "
                f"tokenizer, {scored})"
            )
        self.backbone = backbone
        self.tokens, self.on_scores = copy.deepcopy(action.tokens), copy.deepcopy(action.on_scores)
        self.action = replace(action, tokens=self.tokens, on_scores=self.on_scores)
        self.aggregator = aggregator
        self.generation_config = backbone.generation_config
        self._cached_rows = self.order  # rows that the cache holds for each sequence

    @property
    def order(self) -> int:
        """Number of views."""
        return self.action.words.group.order

    @property
    def looks_ahead(self) -> bool:
        """Whether the views of a prompt are chosen before it is continued (equizero)."""
        return isinstance(self.aggregator, LookAhead)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        view_weights: Tensor | None = None,
        logits_to_keep: int = 0,
        labels: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return what the backbone returns, with the mixture's logits ``[B, T, V]`` and without hidden states.

        Args:
            input_ids: Tokens, integers ``[B, T]``.
            attention_mask: 1 where there is a token, ``[B, T so far]``.
            position_ids: ``[B, T]``.
            view_weights: Weight of each view for the whole sequence, ``[B, |G|]``; by default the aggregator's. By
                default equizero looks ahead of the whole input, so give weights if it holds more than the prompt.
            logits_to_keep: Only the logits of so many last places; 0: all.
            labels: Right tokens, ``[B, T]``, for ``loss``; -100 where there is none.
            **kwargs: Handed through, the cache among them: it holds ``|G|`` rows for each sequence (one where a
                view is chosen).
        """
        if self.looks_ahead:
            of_cache = _weights_of_cache(kwargs)
            if view_weights is None:
                view_weights = self.view_weights(input_ids, attention_mask) if of_cache is None else of_cache
            elif of_cache is not None and of_cache is not view_weights and not torch.equal(of_cache, view_weights):
                raise ValueError(f"the cache holds other views of these sequences than view_weights takes; {_WAYS_OUT}")
        read = view_weights is None and self.aggregator.scores_rows
        chosen = None
        if view_weights is not None and eager(view_weights) and bool(((view_weights > 0).sum(dim=1) == 1).all()):
            chosen = view_weights.argmax(dim=1)
        self._cached_rows = self.order if chosen is None else 1
        views = self.views(input_ids) if chosen is None else cast(Tensor, self.tokens.transform_each(chosen, input_ids))
        kwargs.pop("return_dict", None)
        kwargs.pop("output_hidden_states", None)
        outputs = self.backbone(
            input_ids=views,
            attention_mask=self._each_view(attention_mask),
            position_ids=self._each_view(position_ids),
            logits_to_keep=logits_to_keep,
            output_hidden_states=read,
            return_dict=True,
            **kwargs,
        )
        if self.looks_ahead and getattr(outputs, "past_key_values", None) is not None:
            setattr(outputs.past_key_values, _VIEWS, view_weights)
        outputs.logits = self._mixed(outputs, chosen, view_weights, read)
        outputs.hidden_states = None
        if labels is not None:
            outputs.loss = nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return outputs

    def _mixed(self, outputs: Any, chosen: Tensor | None, view_weights: Tensor | None, read: bool) -> Tensor:
        """Return the logits ``[B, T, V]`` of the mixture from the backbone's outputs on all views, or on the chosen."""
        if chosen is not None:
            rows = outputs.logits.float().softmax(dim=-1)
            elements = chosen.repeat_interleave(rows.shape[1])
            mixed = self.on_scores.pull_back_each(elements, rows.flatten(0, 1))
            return mixed.view_as(rows).clamp_min(_LEAST_PROBABILITY).log()
        places = outputs.logits.shape[1]
        by_place = self._by_place(outputs.logits).float().softmax(dim=-1)
        weights = None
        if view_weights is not None:
            weights = view_weights.repeat_interleave(places, dim=0)
        elif read:
            hidden = self._by_place(outputs.hidden_states[-1][:, -places:])
            weights = self.place_weights(hidden.float())
        mixed = self.on_scores.combine(by_place, weights)
        return mixed.view(-1, places, mixed.shape[-1]).clamp_min(_LEAST_PROBABILITY).log()

    def generate(self, inputs: Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """Generate as ``transformers`` does; equizero looks ahead of the prompts first.

        A cache that is continued (``past_key_values``) keeps the views that were chosen for its prompts.

        Raises:
            ValueError: Equizero with an assistant model, or with a cache that is not of this model.
        """
        if self.looks_ahead and kwargs.get("assistant_model") is not None:
            raise ValueError(
                "equizero continues a view of each prompt, which an assistant model does not know: leave "
                "assistant_model out, take prompt_lookup_num_tokens for drafts, or take equitune or "
                "λ-equitune, which work with one"
            )
        if self.looks_ahead and kwargs.get("view_weights") is None:
            kwargs["view_weights"] = _weights_of_cache(kwargs)
        prompts = cast(Tensor, kwargs.get("input_ids") if inputs is None else inputs)
        if self.looks_ahead and kwargs.get("view_weights") is None:
            kwargs["view_weights"] = self.view_weights(prompts, kwargs.get("attention_mask"))
        return super().generate(inputs, *args, **kwargs)

    def save_pretrained(  # type: ignore[override, unused-ignore]
        self, save_directory: str | os.PathLike[str], **kwargs: Any
    ) -> None:
        """Write the model into a folder that ``from_pretrained`` opens again.

        The backbone goes into its folder ``backbone``, which ``AutoModelForCausalLM`` opens as the plain model that it
        is; the word group, the moved tokens and λ stand beside it. The loss of equizero is a function and is not
        saved.

        Args:
            save_directory: The folder; it is made.
            **kwargs: Arguments of the backbone's ``save_pretrained``.

        Raises:
            ValueError: The folder holds another model, the aggregator is of your own, or ``push_to_hub`` is asked for.
        """
        if kwargs.pop("push_to_hub", False):
            raise ValueError("a symmetrized model is not pushed to a hub; save it, and push its backbone")
        save_symmetrized(self, Path(save_directory), **kwargs)

    @classmethod
    def from_pretrained(  # type: ignore[override, unused-ignore]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        loss: Callable[[list[str]], Sequence[float]] | None = None,
        decode: Callable[[Tensor], list[str]] | None = None,
        **kwargs: Any,
    ) -> SymmetrizedLM:
        """Return a model that ``save_pretrained`` wrote, in evaluation mode.

        Args:
            pretrained_model_name_or_path: The folder.
            loss: The loss of equizero; see ``LookAhead``. Other methods need none.
            decode: The tokenizer's decoding, for equizero.
            **kwargs: Of ``AutoModelForCausalLM.from_pretrained``, for the backbone.

        Raises:
            FileNotFoundError: There is no such model in the folder.
            ValueError: Its files are damaged, or equizero is without its loss.
        """
        model: SymmetrizedLM = load_symmetrized(cls, Path(pretrained_model_name_or_path), loss, decode, **kwargs)
        return model

    def views(self, input_ids: Tensor) -> Tensor:
        """Return all views of tokens ``[B, T]``, ``[B |G|, T]``."""
        return cast(Tensor, self.tokens.orbit_rows(input_ids))

    def view_weights(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Return equizero's weights of the views of prompts, ``[B, |G|]``: 1 for the chosen one, equal among ties.

        Raises:
            TypeError: The method is another one.
        """
        if not self.looks_ahead:
            raise TypeError(f"{type(self.aggregator).__name__} has no weights of whole sequences; LookAhead has")
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = mask.repeat_interleave(self.order, dim=0)
        return cast(LookAhead, self.aggregator).of_views(self.backbone, self.views(input_ids), rows, self.order)

    def place_weights(self, hidden: Tensor) -> Tensor:
        """Return λ's weights from hidden states ``[N, |G|, H]``, ``[N, |G|]``; ``N`` counts places of sequences."""
        return cast(Weighted, self.aggregator).weights_of(hidden)

    def _each_view(self, rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows.repeat_interleave(self._cached_rows, dim=0)

    def _by_place(self, rows: Tensor) -> Tensor:
        """Bring ``[B |G|, T, ...]`` into the form ``[B T, |G|, ...]``."""
        return rows.view(-1, self.order, *rows.shape[1:]).transpose(1, 2).flatten(0, 1)

    def _reorder_cache(self, cache: Any, beam_idx: Tensor) -> Any:
        """Reorder the cache's rows, one or ``|G|`` for each beam; ``generate`` asks for it."""
        rows = beam_idx.unsqueeze(1) * self._cached_rows + torch.arange(self._cached_rows, device=beam_idx.device)
        cache.reorder_cache(rows.flatten())
        return cache


def _weights_of_cache(kwargs: dict[str, Any]) -> Tensor | None:
    """Return the weights of the views that a given cache is of; ``None`` where there is no cache, or an empty one.

    Raises:
        ValueError: It does not tell: another model made it.
    """
    cache = kwargs.get("past_key_values", kwargs.get("cache"))
    if cache is None or cache.get_seq_length() == 0:
        return None
    weights: Tensor | None = getattr(cache, _VIEWS, None)
    if weights is None:
        raise ValueError(f"equizero continues the view that it chose, and this cache does not tell which; {_WAYS_OUT}")
    return weights
