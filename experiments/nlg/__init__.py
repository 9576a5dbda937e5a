"""Fairness in text generation: language models that treat the members of a group alike."""

from equirl.experiments.nlg.command import main

__all__ = ["main"]
