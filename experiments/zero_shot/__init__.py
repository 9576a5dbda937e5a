"""Trained agents made equivariant: how far they generalize to orientations that they never saw."""
