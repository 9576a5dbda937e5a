"""A language model without training, a tokenizer of whole words, and a check, for the tests of `equirl nlg`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

WORDS = """the a and was is said that known for worked as to in of with had her his he she man woman men women boy girl
king queen father mother black white asian person people doctor nurse good bad kind cruel very not Black White Asian
gay straight grandfather"""


def tiny_tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # " man" and "man" are different tokens, as in the vocabularies of GPT-2 and its kin; "Heavy" is "He" and "avy".
    tokens = ["[PAD]", "[UNK]", "[END]", "avy"]
    tokens += [f"Ġ{word}" for word in WORDS.split()] + ["man", "woman", "He", "She", "The", "ĠMan", "ĠWoman"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    pieces = pre_tokenizers.Split(Regex("(?<=^He)(?=avy)"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True), pieces]
    )
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[END]")
    fast.padding_side = "left"
    return fast


def tiny_lm(vocabulary: int, seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 8  # away from uniform distributions
    return model


def save_tiny(folder: Path) -> Path:
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    tiny_lm(len(tokenizer)).save_pretrained(folder)
    return folder


@torch.no_grad()
def gap_with_cache(model: Any, action: Any, starts: dict[str, torch.Tensor], ends: dict[str, torch.Tensor]) -> float:
    """Return the largest gap over the group while texts are read token by token, prompts first, with the cache."""
    here, worst = _read_with_cache(model, starts, ends["input_ids"]), 0.0
    for element in range(1, action.words.group.order):
        moved = {**starts, "input_ids": action.tokens.transform(element, starts["input_ids"])}
        there = _read_with_cache(model, moved, action.tokens.transform(element, ends["input_ids"]))
        for ours, theirs in zip(here, there, strict=True):
            back = action.on_scores.transform(action.words.group.inverse(element), theirs)
            worst = max(worst, float((ours - back).abs().sum(dim=1).max()) / 2)
    return worst


def _read_with_cache(model: Any, starts: dict[str, torch.Tensor], ends: torch.Tensor) -> list[torch.Tensor]:
    from transformers import DynamicCache

    cache, mask, found = DynamicCache(), starts["attention_mask"], []
    looks_ahead = hasattr(getattr(model, "aggregator", None), "of_views")
    extra = {"view_weights": model.view_weights(**starts)} if looks_ahead else {}
    for number, tokens in enumerate([starts["input_ids"], *ends[:, :, None].unbind(1)]):
        if number:
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)[:, -tokens.shape[1] :]
        outputs = model(tokens, attention_mask=mask, position_ids=positions, cache=cache, **extra)
        found.append(outputs.logits[:, -1].softmax(dim=-1))
    return found
