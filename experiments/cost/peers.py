"""Other libraries beside ours, each in a Python that has them: none installs beside current torch and NumPy.

That Python runs this file as a script. It need not know Stable-Baselines3, so that beside what is measured only torch
and the core of equirl are imported at the top.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import equirl
from equirl import Canonical, Equitune, cyclic_group, image_representation
from equirl.constructions import regular_representation

if TYPE_CHECKING:
    from equirl.experiments.cost.measurement import Measurement
    from equirl.experiments.timing import Settings

__all__ = ["PEERS", "measure_peers"]

PEERS = "peers: C4, convolutions of 32 channels"
CHANNELS, SIZE = 32, 8


def measure_peers(settings: Settings, python: str | None) -> Iterator[Measurement]:
    """Yield forward, and forward + backward, of escnn and equiadapt beside ours and the plain network, on the CPU.

    Args:
        settings: How often.
        python: The Python to run; ``None``: this one.
    """
    from equirl.experiments.cost.measurement import rows_of

    batches = "1,32" if settings.quick else "1,32,256"
    command = [python or sys.executable, str(Path(__file__)), str(settings.rounds), batches]
    # The folder that holds the package equirl, for a Python where it is not installed.
    environment = {**os.environ, "PYTHONPATH": str(Path(equirl.__file__).parents[1]), "PYTHONWARNINGS": "ignore"}
    try:
        run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    except OSError as error:
        raise ValueError(f"{command[0]} cannot be run ({error}); name a Python") from error
    if run.returncode:
        print(f"peers: {command[0]} failed with status {run.returncode}; see above", file=sys.stderr)
    for line in run.stdout.splitlines():
        case = json.loads(line)
        if "missing" in case:
            print(f"peers: {case['missing']} is not installed in {command[0]}", file=sys.stderr)
            continue
        one_thread = replace(settings, device="cpu", threads=1)
        yield from rows_of(case["seconds"], one_thread, f"{PEERS}, {case['what']}", "C4", "cnn", SIZE, case["batch"])


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
    return nn.Sequential(GroupEquivariantImageCanonicalization(network, settings, shape), backbone())


def main() -> None:
    """Time all that is installed, in turns, and print one JSON line for each case."""
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
            timers = {
                name: Timer("case()", globals={"case": _case(network, x, what)}) for name, network in networks.items()
            }
            turns = [
                {name: timer.blocked_autorange(min_run_time=0.05).mean for name, timer in timers.items()}
                for _ in range(rounds + 1)
            ]
            seconds = {name: [turn[name] for turn in turns[1:]] for name in timers}
            print(json.dumps({"what": what, "batch": batch, "seconds": seconds}), flush=True)


def _case(network: nn.Module, x: Tensor, what: str) -> Callable[[], object]:
    def forward() -> object:
        with torch.no_grad():
            return network(x)

    def train() -> None:
        network.zero_grad()
        network(x).square().mean().backward()

    return forward if what == "forward" else train


if __name__ == "__main__":
    main()
