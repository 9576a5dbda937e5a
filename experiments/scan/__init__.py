"""SCAN: compositional generalization by symmetrizing a sequence-to-sequence model."""

from equirl.experiments.scan.command import main

__all__ = ["main"]
