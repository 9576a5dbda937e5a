"""The networks and symmetries that the bench measures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import equirl.envs  # noqa: F401 (registers the grid's symmetries)
from equirl import (
    Canonical,
    Equitune,
    Equizero,
    LambdaEquitune,
    MDPSymmetry,
    build_symmetry,
    permutation_representation,
    symmetric_group,
)
from equirl.constructions import channel_representation
from equirl.representations import Representation

__all__ = ["METHODS", "Loop", "backbone", "group_symmetry"]

METHODS: dict[str, Callable[[nn.Module, MDPSymmetry], nn.Module]] = {
    "equitune": lambda m, s: Equitune(m, s.observation, s.action),
    "lambda_equitune": lambda m, s: LambdaEquitune(m, s.observation, s.action, reads="inputs", hidden=(32,)),
    "equizero": lambda m, s: Equizero(m, s.observation, s.action),
    "canonical": lambda m, s: Canonical(m, s.observation, s.action),
    "loop": lambda m, s: Loop(m, s.observation, s.action),
}
"""Name to module; the policies' own settings."""


class Loop(nn.Module):
    """Equitune as one would first write it: one call of the backbone for each group element."""

    def __init__(self, backbone: nn.Module, input_rep: Representation, output_rep: Representation) -> None:
        super().__init__()
        self.backbone, self.input_rep, self.output_rep = backbone, input_rep, output_rep

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of ``g^-1 M(gx)``."""
        group = self.input_rep.group
        total: Tensor | None = None
        for g in range(group.order):
            term = self.output_rep.transform(int(group.inverses[g]), self.backbone(self.input_rep.transform(g, x)))
            assert isinstance(term, Tensor)
            total = term if total is None else total + term
        assert total is not None
        return total / group.order


def group_symmetry(name: str, size: int) -> tuple[MDPSymmetry, tuple[int, int, int]]:
    """Return a symmetry of images with four actions, and the images' shape.

    Args:
        name: ``"C4"`` or ``"D4"`` (they turn the image), or ``"S4"`` (it permutes four channels).
        size: Rows and columns.
    """
    if name == "S4":
        group = symmetric_group(4)
        shape = (4, size, size)
        natural = permutation_representation(group)
        action = group.natural_action
        assert action is not None
        return MDPSymmetry("channels", channel_representation(group, shape, action), natural), shape
    shape = (3, size, size)
    return build_symmetry(f"grid-{name.lower()}", shape, 4), shape


def backbone(kind: str, shape: tuple[int, int, int]) -> nn.Module:
    """Return an ``"mlp"`` or a ``"cnn"`` for images, with four outputs."""
    torch.manual_seed(0)
    channels, size, _ = shape
    if kind == "mlp":
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(channels * size * size, 128), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 4))
    if size <= 16:
        convolutions = [nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    else:
        convolutions = [
            *(nn.Conv2d(channels, 16, 5, stride=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, stride=2), nn.ReLU()),
        ]
    features = nn.Sequential(*convolutions, nn.Flatten())
    with torch.no_grad():
        n = features(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(features, nn.Linear(n, 128), nn.ReLU(), nn.Linear(128, 4))
