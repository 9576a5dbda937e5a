"""What records a graph (export, trace, compile) must not record one input's choice for all."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from torch import Tensor, nn

import equirl.envs  # noqa: F401
from equirl import dihedral_group, image_representation, trivial_representation
from equirl.agents import EquivariantActorCriticPolicy, EquivariantDQNPolicy, EquivariantQRDQNPolicy
from equirl.symmetrization import Canonical, Equitune, Equizero, LambdaEquitune, Symmetrized
from equirl.testing import evaluation_mode

D4 = dihedral_group(4)
IMAGES, CLASSES = image_representation(D4, (1, 6, 6)), trivial_representation(D4, (70,))
METHODS: dict[str, Callable[[nn.Module], Symmetrized]] = {
    "equitune": lambda m: Equitune(m, IMAGES, CLASSES),
    "lambda_equitune": lambda m: LambdaEquitune(m, IMAGES, CLASSES, reads="inputs"),
    "equizero": lambda m: Equizero(m, IMAGES, CLASSES),
    "canonical": lambda m: Canonical(m, IMAGES, CLASSES),
}


def _exported(module: nn.Module, x: Tensor) -> Any:
    batch = torch.export.Dim("batch", min=1)
    return torch.export.export(module, (x,), dynamic_shapes=({0: batch},)).module()


def _traced(module: nn.Module, x: Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its tracer; SB3's recipe for ONNX goes through it
        return torch.jit.trace(module, (x,), check_trace=False)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("record", "n"), [(_exported, 4), (_traced, 1), (_traced, 4)])
def test_a_recorded_module_answers_as_itself_for_other_inputs(
    method: str, record: Callable[[nn.Module, Tensor], Any], n: int
) -> None:
    torch.manual_seed(0)
    module = METHODS[method](nn.Sequential(nn.Flatten(), nn.Linear(36, 70))).eval()
    x = torch.rand(20, 1, 6, 6)
    x[5] = x[5] + x[5].flip(2)
    with torch.no_grad():
        recorded, expected = record(module, x[:n]), module(x)
        assert torch.allclose(recorded(x), expected, atol=1e-5)
        for k in range(len(x)):
            assert torch.allclose(recorded(x[k : k + 1]), expected[k : k + 1], atol=1e-5)


class _Outputs(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.network.symmetrized(x)
        return outputs


@pytest.mark.parametrize("algorithm", ["dqn", "qrdqn", "ppo"])
@pytest.mark.parametrize("method", METHODS)
def test_a_recorded_policy_answers_as_itself_for_other_observations(algorithm: str, method: str) -> None:
    world = gym.make("equirl/GridWorld-v0", size=5)
    seen = torch.stack([torch.as_tensor(world.reset(seed=seed)[0]) for seed in range(12)])
    settings: Any = {"policy_kwargs": {"symmetry": "grid-d4", "method": method}, "device": "cpu", "seed": 0}
    if algorithm == "ppo":
        network: Any = PPO(EquivariantActorCriticPolicy, world, n_steps=16, batch_size=16, **settings).policy
    elif algorithm == "dqn":
        network = DQN(EquivariantDQNPolicy, world, buffer_size=10, **settings).q_net
    else:
        network = QRDQN(EquivariantQRDQNPolicy, world, buffer_size=10, **settings).quantile_net
    with evaluation_mode(network), torch.no_grad():
        outputs = _Outputs(network)
        expected = outputs(seen)
        for recorded in (_exported(outputs, seen[:4]), _traced(outputs, seen[:1])):
            assert torch.allclose(recorded(seen), expected, atol=1e-5)
            assert torch.allclose(recorded(seen[7:8]), expected[7:8], atol=1e-5)
