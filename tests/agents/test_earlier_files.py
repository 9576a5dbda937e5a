"""Files and state dicts that were saved before modules were moved still open."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, PPO
from torch import nn

import equirl.envs  # noqa: F401
from equirl import LambdaEquitune, cyclic_group, permutation_representation
from equirl.agents import EquivariantActorCriticPolicy, EquivariantDQNPolicy, EquivariantQRDQNPolicy, load_agent
from equirl.experiments.scan.batches import COMMAND_VOCABULARY
from equirl.experiments.scan.models import make_model, make_symmetry
from equirl.models.sequence_aggregators import make_sequence_aggregator
from equirl.models.sequences import SymmetrizedSequenceModel

DATA = Path(__file__).parents[1] / "data"
SAVED: dict[str, Any] = json.loads((DATA / "state_of_0.1.json").read_text())


def test_a_saved_agent_gives_the_same_values() -> None:
    agent = load_agent(DATA / "agent_of_0.1.zip")
    observations = torch.tensor(SAVED["observations"])
    with torch.no_grad():
        assert torch.allclose(agent.q_net(observations), torch.tensor(SAVED["q_values"]), atol=1e-6)


def _module(name: str) -> nn.Module:
    if name == "LambdaEquitune":
        natural = permutation_representation(cyclic_group(3))
        return LambdaEquitune(nn.Linear(3, 3), natural, natural)
    if name == "sequences":
        aggregator = make_sequence_aggregator("lambda_equitune", len(COMMAND_VOCABULARY))
        return SymmetrizedSequenceModel(make_model("lstm", 8), make_symmetry("directions"), aggregator)
    algorithm, method = name.split()
    policy_kwargs = {"symmetry": "grid-c4", "method": method, "net_arch": [8]}
    kinds: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "DQN": (DQN, EquivariantDQNPolicy, {"buffer_size": 10}),
        "QRDQN": (QRDQN, EquivariantQRDQNPolicy, {"buffer_size": 10}),
        "PPO": (PPO, EquivariantActorCriticPolicy, {}),
    }
    agent, policy, settings = kinds[algorithm]
    environment = gym.make("equirl/GridWorld-v0", size=3)
    made: nn.Module = agent(policy, environment, policy_kwargs=policy_kwargs, device="cpu", **settings).policy
    return made


@pytest.mark.parametrize("name", SAVED["state_dicts"])
def test_state_dicts_keep_their_keys_and_shapes(name: str) -> None:
    ours = {key: list(value.shape) for key, value in _module(name).state_dict().items()}
    assert ours == SAVED["state_dicts"][name]
    assert list(ours) == list(SAVED["state_dicts"][name])  # optimizers know parameters by their order
