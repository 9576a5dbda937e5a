"""Images: pretrained and zero-shot classifiers that do not care how an image is turned."""

from equirl.experiments.vision.command import main

__all__ = ["main"]
