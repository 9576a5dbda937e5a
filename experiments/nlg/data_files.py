"""The texts that ship with the experiments: prompts, labelled sentences, texts for perplexity."""

from pathlib import Path

__all__ = ["DATA"]

DATA = Path(__file__).parent / "data"
"""Their folder."""
