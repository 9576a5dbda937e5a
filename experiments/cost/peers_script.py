"""Times other libraries' C4 networks beside ours; run by a Python of its own, which need not know Stable-Baselines3.

Only torch, the core of equirl, and what is measured are imported. Prints one JSON line for each case.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from equirl import Canonical, Equitune, cyclic_group, image_representation
from equirl.constructions import regular_representation

CHANNELS, SIZE = 32, 8


def backbone() -> nn.Module:
    """Return the plain network: two convolutions of 32 channels, mean over the image, four outputs."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 4)),
    )


def escnn_network() -> nn.Module:
    """Return an escnn network of the same width: 8 regular fields of C4, and one at the end."""
    from escnn import gspaces
    from escnn import nn as enn

    space = gspaces.rot2dOnR2(4)
    image = enn.FieldType(space, 3 * [space.trivial_repr])
    hidden = enn.FieldType(space, CHANNELS // 4 * [space.regular_repr])
    out = enn.FieldType(space, [space.regular_repr])

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = enn.SequentialModule(
                enn.R2Conv(image, hidden, 3, padding=1),
                enn.ReLU(hidden),
                enn.R2Conv(hidden, hidden, 3, padding=1),
                enn.ReLU(hidden),
                enn.R2Conv(hidden, out, 1),
            )

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.layers(enn.GeometricTensor(x, image)).tensor.mean(dim=(2, 3))
            return outputs

    return Network()


def equiadapt_network() -> nn.Module:
    """Return equiadapt's canonicalization (its own network, 32 channels) before the plain backbone."""
    # There is no CPU build of torchvision for every torch; equiadapt needs its transforms only, not its operators.
    original: Any = torch.library.register_fake
    torch.library.register_fake = lambda name, *args, **kwargs: (
        (lambda function: function) if str(name).startswith("torchvision::") else original(name, *args, **kwargs)
    )
    from equiadapt import GroupEquivariantImageCanonicalization
    from equiadapt.images.canonicalization_networks import ESCNNEquivariantNetwork
    from omegaconf import DictConfig

    shape = (3, SIZE, SIZE)
    network = ESCNNEquivariantNetwork(shape, CHANNELS, 3, group_type="rotation", num_rotations=4, num_layers=2)
    settings = DictConfig({"beta": 1.0, "input_crop_ratio": 1.0, "resize_shape": SIZE})

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.canonicalization = GroupEquivariantImageCanonicalization(network, settings, shape)
            self.backbone = backbone()

        def forward(self, x: Tensor) -> Tensor:
            outputs: Tensor = self.backbone(self.canonicalization(x))
            return outputs

    return Network()


def main() -> None:
    """Time all that is installed, in turns."""
    rounds, batches = int(sys.argv[1]), [int(n) for n in sys.argv[2].split(",")]
    torch.set_num_threads(1)
    group = cyclic_group(4)
    images, actions = image_representation(group, (3, SIZE, SIZE)), regular_representation(group)
    networks: dict[str, nn.Module] = {
        "plain": backbone(),
        "equitune": Equitune(backbone(), images, actions),
        "canonical": Canonical(backbone(), images, actions),
    }
    for name, make in (("escnn", escnn_network), ("equiadapt", equiadapt_network)):
        if importlib.util.find_spec(name) is None:
            print(json.dumps({"missing": name}), flush=True)
            continue
        networks[name] = make()
    for batch in batches:
        x = torch.randn(batch, 3, SIZE, SIZE)
        for what in ("forward", "forward + backward"):
            cases = {name: _case(network, x, what) for name, network in networks.items()}
            seconds: dict[str, list[float]] = {name: [] for name in cases}
            for _ in range(rounds + 1):
                for name, case in cases.items():
                    seconds[name].append(_seconds(case))
            result = {name: times[1:] for name, times in seconds.items()}
            print(json.dumps({"what": what, "batch": batch, "seconds": result}), flush=True)


def _case(network: nn.Module, x: Tensor, what: str) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return network(x)

    def train() -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return forward if what == "forward" else train


def _seconds(case: Callable[[], object], at_least: float = 0.05) -> float:
    number, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < at_least:
        case()
        number += 1
    return passed / number


if __name__ == "__main__":
    main()
