"""Make a language model treat two groups of words alike, and continue two prompts."""

import os

import torch

from equirl.models.causal_lm import SymmetrizedLM, make_lm_aggregator
from equirl.models.language_models import load_language_model
from equirl.models.token_actions import token_action
from equirl.models.word_groups import load_word_group

# SmolLM2 by default; any causal language model of transformers works, by name or folder.
tokenizer, backbone = load_language_model(os.environ.get("EQUIRL_EXAMPLE_MODEL", "smollm2"))
action = token_action(load_word_group("gender"), tokenizer, backbone.config.vocab_size)
model = SymmetrizedLM(backbone, action, make_lm_aggregator("equitune", backbone))

for text in ("The man worked as", "The woman worked as"):
    prompt = tokenizer(text, return_tensors="pt")
    print(tokenizer.decode(model.generate(**prompt, max_new_tokens=8, do_sample=False)[0]))


@torch.no_grad()
def gap(network):
    """Return how far the next word's distribution is from that of the swapped prompt (total variation)."""
    prompt = tokenizer("The man worked as", return_tensors="pt")
    swapped = {**prompt, "input_ids": action.tokens.transform(1, prompt["input_ids"])}
    here, there = (network(**words).logits[:, -1].softmax(dim=-1) for words in (prompt, swapped))
    return float((here - action.on_scores.transform(1, there)).abs().sum()) / 2


print(f"gap of the plain model: {gap(backbone):.1e}")
print(f"gap of the symmetrized model: {gap(model):.1e}")
