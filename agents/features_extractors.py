"""Features extractors: a CNN for small grids, where SB3's NatureCNN needs 36 x 36 pixels, and how one is named."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from torch import Tensor, nn

from equirl.arguments import whole_number

__all__ = ["GridCNN", "resolve_features_extractor"]


class GridCNN(BaseFeaturesExtractor):
    """Two 3 x 3 convolutions and a linear layer, for images ``[C, H, W]`` of any size from 1 x 1.

    Args:
        observation_space: ``Box`` of shape ``(C, H, W)``.
        features_dim: Length of the features, shape ``[B, features_dim]``.
        channels: Channels of the two convolutions.

    Raises:
        TypeError: ``features_dim`` or a number of channels is no whole number.
        ValueError: The observation is not an image ``[C, H, W]``, or ``features_dim`` or a number of channels is less
            than 1.
    """

    def __init__(
        self, observation_space: spaces.Box, features_dim: int = 128, channels: tuple[int, int] = (32, 32)
    ) -> None:
        if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 3:
            raise ValueError(f"GridCNN takes images [C, H, W], a Box; the observation space is {observation_space}")
        features_dim = whole_number(features_dim, "features_dim", 1)
        if len(channels) != 2:
            raise ValueError(f"GridCNN has two convolutions, so channels are two numbers; got {channels!r}")
        channels = (whole_number(channels[0], "channels[0]", 1), whole_number(channels[1], "channels[1]", 1))
        super().__init__(observation_space, features_dim)
        planes = observation_space.shape[0]
        self.cnn = nn.Sequential(
            nn.Conv2d(planes, channels[0], kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels[0], channels[1], kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = self.cnn(torch.zeros(1, *observation_space.shape)).shape[1]
        self.linear = nn.Sequential(nn.Linear(flat, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        """Return the features: ``[B, C, H, W] -> [B, features_dim]``."""
        features: Tensor = self.linear(self.cnn(observations))
        return features


def resolve_features_extractor(
    given: type[BaseFeaturesExtractor] | str | None, observation_space: spaces.Space[Any]
) -> type[BaseFeaturesExtractor]:
    """Return the class that is meant: a class as it is, a dotted path imported, ``None`` by the observation space.

    Raises:
        TypeError: Not a features extractor.
        ValueError: A path that cannot be imported.
    """
    if given is None:
        return CombinedExtractor if isinstance(observation_space, spaces.Dict) else FlattenExtractor
    if isinstance(given, str):
        module, _, name = given.rpartition(".")
        try:
            given = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"features_extractor_class {given!r} cannot be imported ({error}); give a class or a dotted path such "
                "as 'equirl.agents.GridCNN'"
            ) from error
    if not (isinstance(given, type) and issubclass(given, BaseFeaturesExtractor)):
        raise TypeError(f"features_extractor_class must be a subclass of SB3's BaseFeaturesExtractor; got {given!r}")
    return given
