"""Image classifiers whose answer does not depend on how an image is turned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from equirl.aggregators import Aggregator, Mean, Select
from equirl.chunking import Chunking
from equirl.constructions import trivial_representation
from equirl.models.image_classifier import Classifier
from equirl.models.image_lambda import SHRUNK, make_lambda, shrink
from equirl.models.saved_images import load_classifier, save_classifier
from equirl.names import ORBIT_METHODS, unknown_name_message
from equirl.orbit import Orbit
from equirl.orbit_map import OrbitMap
from equirl.proxy_losses import ProxyLoss
from equirl.rotations import image_action
from equirl.testing import evaluation_mode

__all__ = ["LEVELS", "PROXY_LOSSES", "READS", "SymmetrizedClassifier", "make_image_aggregator", "parts_of"]

LEVELS = ("output", "maps")
READS = ("features", "inputs")
PROXY_LOSSES = {"similarity": "max_value", "confidence": "confidence", "entropy": "entropy"}
"""Names here, and the core's: the largest logit or similarity, the largest probability, the entropy."""


class SymmetrizedClassifier(nn.Module):
    """An invariant classifier, ``M_G(gx) = M_G(x)``.

    At the output: ``sum_g w(gx) M(gx)``. On feature maps: ``classifier(head(sum_g w(gx) g^-1 maps(gx)))``: equivariant
    maps under a head that takes a mean over places, and so does not see how they are turned.

    Args:
        classifier: The backbone, used as it is.
        group: One of ``IMAGE_GROUPS``.
        aggregator: See ``make_image_aggregator``.
        level: ``"output"`` or ``"maps"``.
        reads: What a learned λ reads of a view: ``"features"``, pooled, or ``"inputs"``, the image itself, shrunk.

    Raises:
        ValueError: An unknown group, level or thing to read; or, on feature maps, a head that sees how they are turned.
    """

    def __init__(
        self,
        classifier: Classifier,
        group: str,
        aggregator: Aggregator,
        level: str = "output",
        reads: str = "features",
    ) -> None:
        super().__init__()
        if level not in LEVELS:
            raise ValueError(unknown_name_message("level", level, LEVELS))
        if reads not in READS:
            raise ValueError(unknown_name_message("thing for λ to read", reads, READS))
        shape = (3, classifier.size, classifier.size)
        self.classifier = classifier
        self.group = group
        self.parts = parts_of(level, reads)
        self.aggregator = aggregator
        self.level = level
        self.reads = reads
        self.images = image_action(group, shape)
        with torch.no_grad(), evaluation_mode(classifier):
            maps = classifier.maps(torch.zeros(1, *shape, device=classifier.mean.device))
            n_classes = classifier.logits_of_maps(maps).shape[1]
        self.logits = trivial_representation(self.images.group, (n_classes,))
        self.on_maps = image_action(group, maps.shape[1:]) if level == "maps" else None
        if self.on_maps is not None:
            numbers = torch.Generator().manual_seed(0)
            _check_head(classifier, torch.rand(maps.shape, generator=numbers).to(maps))
        self._chunking = Chunking([classifier])

    def save_pretrained(self, save_directory: str | Path) -> None:
        """Write the model into a folder without pickle, which ``from_pretrained`` opens again.

        Args:
            save_directory: The folder; it is made.

        Raises:
            ValueError: The folder holds something else, or the aggregator is of your own.
        """
        save_classifier(self, Path(save_directory))

    @classmethod
    def from_pretrained(cls, folder: str | Path, classifier: Classifier | None = None) -> SymmetrizedClassifier:
        """Return a model that ``save_pretrained`` wrote, in evaluation mode.

        Args:
            folder: The folder.
            classifier: The backbone, where it was not made by ``load_backbone``; it gets the saved weights.

        Raises:
            FileNotFoundError: There is no such model in the folder.
            ValueError: Its files are damaged, or it needs its backbone.
        """
        model: SymmetrizedClassifier = load_classifier(cls, Path(folder), classifier)
        return model

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of images ``[N, 3, S, S]``, ``[N, K]``."""
        if self.on_maps is not None:
            return self.classifier.logits_of_maps(self.equivariant_maps(images))
        orbit_map = OrbitMap(self.images, self.logits, self.aggregator, self._chunking)
        shown = self._shown if self.reads == "inputs" else None
        return orbit_map(self.classifier.classifier, images, self._pooled, shown)

    def equivariant_maps(self, images: Tensor) -> Tensor:
        """Return ``sum_g w(gx) g^-1 maps(gx)``, ``[N, C, h, h]``: turned images have turned maps.

        Raises:
            ValueError: The group does not act on feature maps here.
        """
        if self.on_maps is None:
            raise ValueError('at level "output" the group does not act on feature maps; give level="maps"')
        orbit_map = OrbitMap(self.images, self.on_maps, self.aggregator, self._chunking)
        return orbit_map(self.classifier.maps, images, shown=self._shown)

    def orbit(self, pooled: Tensor, maps: Tensor | None = None, inputs: Tensor | None = None) -> Orbit:
        """Return what the aggregator sees, of what has been computed of all views before.

        Args:
            pooled: Pooled features ``[N, |G|, F]``.
            maps: Feature maps ``[N, |G|, C, h, h]``, at level ``"maps"``.
            inputs: The images, shrunk, ``[N, |G|, 256]``, where λ reads them.
        """
        logits = cast(Tensor, self.classifier.classifier(pooled))
        output_rep = self.logits if self.on_maps is None else self.on_maps
        return Orbit(None, logits, output_rep, pooled if inputs is None else inputs, maps)

    def logits_of_orbit(self, orbit: Orbit) -> Tensor:
        """Return logits ``[N, K]`` from what ``orbit`` returned."""
        combined = cast(Tensor, self.aggregator(orbit))
        return combined if self.on_maps is None else self.classifier.logits_of_maps(combined)

    def _pooled(self, images: Tensor) -> Tensor:
        return self.classifier.pooled(self.classifier.maps(images))

    def _shown(self, orbit: Orbit) -> Orbit:
        """Return what the aggregator sees: of maps what the head makes of each view's; images, where λ reads them."""
        if self.on_maps is not None:
            pooled = self.classifier.pooled(orbit.outputs.flatten(0, 1)).view(*orbit.outputs.shape[:2], -1)
            logits = cast(Tensor, self.classifier.classifier(pooled))
            orbit = dataclasses.replace(orbit, seen=pooled, outputs=logits, combined=orbit.outputs)
        if self.reads == "inputs":
            views = cast(Tensor, orbit.inputs)
            orbit = dataclasses.replace(orbit, seen=shrink(views.flatten(0, 1)).view(*views.shape[:2], -1))
        return orbit


def make_image_aggregator(
    method: str,
    inputs: int,
    proxy_loss: str | ProxyLoss = "similarity",
    lambda_network: str = "two-layer",
    reads: str = "features",
) -> Aggregator:
    """Return the aggregator of a method.

    Args:
        method: One of ``ORBIT_METHODS``.
        inputs: Length of the pooled features, which λ reads.
        proxy_loss: Equizero's proxy loss, one of ``PROXY_LOSSES``, or a callable ``Orbit -> [B, |G|]``.
        lambda_network: Kind of λ-network; see ``make_lambda``.
        reads: ``"features"``, or ``"inputs"``: λ reads shrunk images.

    Raises:
        ValueError: An unknown name.
    """
    if method == "equitune":
        return Mean()
    if method == "equizero":
        if isinstance(proxy_loss, str):
            if proxy_loss not in PROXY_LOSSES:
                raise ValueError(unknown_name_message("proxy loss", proxy_loss, list(PROXY_LOSSES)))
            proxy_loss = PROXY_LOSSES[proxy_loss]
        return Select(proxy_loss)
    if method != "lambda_equitune":
        raise ValueError(unknown_name_message("method", method, ORBIT_METHODS))
    return make_lambda(lambda_network, inputs if reads == "features" else SHRUNK**2)


def parts_of(level: str, reads: str) -> tuple[str, ...]:
    """Return the names of the quantities per view that ``SymmetrizedClassifier.orbit`` takes."""
    return ("pooled", *(["maps"] if level == "maps" else []), *(["inputs"] if reads == "inputs" else []))


@torch.no_grad()
def _check_head(classifier: Classifier, maps: Tensor) -> None:
    """Check that the head makes the same of maps and of turned and mirrored maps."""
    with evaluation_mode(classifier):
        pooled = classifier.pooled(maps)
        turned = [classifier.pooled(moved) for moved in (maps.rot90(1, (2, 3)), maps.flip(3))]
    if not all(torch.allclose(found, pooled, atol=1e-4, rtol=1e-3) for found in turned):
        raise ValueError(
            'level "maps" needs a head that does not see how maps are turned: a mean over places, and convolutions '
            "of 1x1 at most; move the others to the feature maps"
        )
