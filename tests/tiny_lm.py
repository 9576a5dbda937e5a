"""A language model without training, and a tokenizer of whole words, for the tests of `equirl nlg`."""

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
