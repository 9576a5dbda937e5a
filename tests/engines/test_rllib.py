"""RLlib: equivariant modules, a cluster on the loopback, a training that is killed and goes on, and the way to SB3."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import DQN

pytest.importorskip("ray.rllib", reason="make engines")

from killed_studies import ray_cluster
from ray.rllib.core.rl_module import RLModuleSpec

from equirl import equivariance_error
from equirl.agents.from_rllib import agent_from_rllib
from equirl.envs.gridworld_states import GridWorldStates
from equirl.integrations.rllib import EquivariantDQNModule, EquivariantPPOModule
from equirl.methods import METHODS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

DQN_CONFIG = {"dueling": False, "double_q": True, "num_atoms": 1, "epsilon": 0.1, "head_fcnet_hiddens": []}


def _grid() -> Any:
    return gym.make("equirl.envs:equirl/GridWorld-v0")


def _dqn(method: str = "equitune", env: Any = None, **more: Any) -> Any:
    env = _grid() if env is None else env
    config = {"symmetry": "equirl.envs:grid-d4", "method": method, "fcnet_hiddens": [32, 24], **DQN_CONFIG, **more}
    torch.manual_seed(0)
    module = RLModuleSpec(EquivariantDQNModule, env.observation_space, env.action_space, model_config=config).build()
    module.make_target_networks()
    _stir(module)
    return module


def _ppo(method: str = "equitune", inference_only: bool = False, **more: Any) -> Any:
    env = gym.make("CartPole-v1")
    config = {"symmetry": "equirl.envs:cartpole-z2", "method": method, "fcnet_hiddens": [16], **more}
    torch.manual_seed(0)
    spaces = env.observation_space, env.action_space
    module = RLModuleSpec(EquivariantPPOModule, *spaces, inference_only=inference_only, model_config=config).build()
    _stir(module)
    return module


def _stir(module: Any) -> None:
    """Give λ's last layer, which begins at zero, weights that matter."""
    for parameter in module.aggregator.parameters():
        torch.nn.init.normal_(parameter, std=0.3)


def _states(n: int = 24) -> torch.Tensor:
    return torch.as_tensor(GridWorldStates(7).observations[:: 2352 // n][:n])


def _q_values(module: Any) -> Any:
    return lambda x: module.compute_q_values({"obs": x})["qf_preds"]


@pytest.mark.parametrize("dueling", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_q_values_move_with_the_state_and_target_and_file_agree(method: str, dueling: bool, tmp_path: Path) -> None:
    module = _dqn(method, dueling=dueling)
    x = _states()
    error = equivariance_error(_q_values(module), module.input_rep, module.output_rep, x.float())
    assert error < 1e-5
    plain = super(EquivariantDQNModule, module)._qf_forward_helper
    heads = {"af": module.af, "vf": module.vf} if dueling else module.af

    def bare(rows: torch.Tensor) -> torch.Tensor:
        return plain({"obs": rows.flatten(1)}, module.encoder, heads)["qf_preds"]

    assert equivariance_error(bare, module.input_rep, module.output_rep, x.float()) > 1e-2
    module.make_target_networks()  # as it is now
    assert torch.equal(module.forward_target({"obs": x})["qf_preds"], _q_values(module)(x))
    module.save_to_path(tmp_path)
    restored: Any = EquivariantDQNModule.from_checkpoint(tmp_path)
    assert torch.equal(_q_values(restored)(x), _q_values(module)(x))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_logits_move_and_the_value_does_not_on_learners_and_runners(method: str, shared: bool) -> None:
    learner, runner = (_ppo(method, inference_only, vf_share_layers=shared) for inference_only in (False, True))
    x = torch.randn(16, 4)
    for module in (learner, runner):
        error = equivariance_error(
            lambda x, module=module: module.forward_inference({"obs": x})["action_dist_inputs"],
            module.input_rep,
            module.symmetry.action,
            x,
        )
        assert error < 1e-5
    trained = learner.forward_train({"obs": x})
    assert torch.equal(trained["embeddings"], learner.compute_values({"obs": x}))
    torch.testing.assert_close(learner.compute_values({"obs": x}), learner.compute_values({"obs": -x}))
    runner.set_state(learner.get_state(inference_only=True))
    logits = [module.forward_inference({"obs": x})["action_dist_inputs"] for module in (learner, runner)]
    torch.testing.assert_close(*logits)


@pytest.mark.parametrize(
    ("config", "kind", "says"),
    [
        ({"symmetry": "equirl.envs:grid-d5"}, ValueError, "grid-d4"),
        ({"symmetry": "no_such_module:grid-d4"}, ValueError, "cannot be imported"),
        ({"symmetry": None}, TypeError, "MODULE:NAME"),
        ({"method": "mean"}, ValueError, "equitune"),
        ({"num_atoms": 11, "v_min": -1.0, "v_max": 1.0}, ValueError, "num_atoms=1"),
    ],
)
def test_a_mistake_is_told(config: dict[str, Any], kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=says):
        _dqn(**config)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("method", METHODS)
def test_a_dqn_module_becomes_an_agent_of_sb3(method: str, activation: str, tmp_path: Path) -> None:
    module = _dqn(method, fcnet_activation=activation)
    agent: Any = agent_from_rllib(module, _grid(), gamma=0.95)
    agent.save(tmp_path / "agent.zip")
    for opened in (agent, DQN.load(tmp_path / "agent.zip")):
        x = _states()
        torch.testing.assert_close(opened.policy.q_net(x), _q_values(module)(x))
        torch.testing.assert_close(opened.policy.q_net_target(x), _q_values(module)(x))
    assert agent.gamma == 0.95


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_ppo_module_becomes_an_agent_of_sb3(method: str, shared: bool) -> None:
    module = _ppo(method, vf_share_layers=shared)
    agent: Any = agent_from_rllib(module, gym.make("CartPole-v1"))
    x = torch.randn(9, 4)
    logits = module.forward_inference({"obs": x})["action_dist_inputs"]
    torch.testing.assert_close(agent.policy.action_parameters(x), logits)
    torch.testing.assert_close(agent.policy.predict_values(x)[:, 0], module.compute_values({"obs": x}))


def test_what_sb3_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="dueling=False"):
        agent_from_rllib(_dqn(dueling=True), _grid())
    with pytest.raises(ValueError, match="one activation"):
        agent_from_rllib(_dqn(head_fcnet_hiddens=[8], fcnet_activation="tanh"), _grid())
    with pytest.raises(ValueError, match="not linear"):
        agent_from_rllib(_dqn(fcnet_use_layernorm=True), _grid())
    with pytest.raises(ValueError, match="without a critic"):
        agent_from_rllib(_ppo(inference_only=True), gym.make("CartPole-v1"))
    with pytest.raises(TypeError, match="EquivariantDQNModule"):
        agent_from_rllib(torch.nn.Linear(2, 2), _grid())
    with pytest.raises(ValueError, match="acts on observations"):
        agent_from_rllib(_dqn(), gym.make("equirl.envs:equirl/GridWorld-v0", size=5))


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A Ray cluster on the loopback, as environment variables of a program that is to use it."""
    with ray_cluster(cpus=6) as running:
        yield {**os.environ, "RAY_ADDRESS": running.address, "EQUIRL_EXAMPLE_STEPS": "3000"}


@pytest.mark.slow
def test_the_grid_is_learned_by_two_learners_killed_and_resumed(cluster: dict[str, str], tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "rllib_grid.py"), str(tmp_path / "run")]
    options: dict[str, Any] = {"env": cluster, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    killed = subprocess.Popen(command, **options)
    assert killed.stdout is not None
    for line in killed.stdout:
        if line.startswith("checkpoint at"):
            break
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    (checkpoint,) = (tmp_path / "run").glob("steps-*")
    resumed = subprocess.run(command, **options, check=True).stdout
    assert f"resumed from {checkpoint.name}" in resumed
    steps = [int(found) for found in re.findall(r"checkpoint at (\d+) steps", resumed)]
    assert steps[0] > int(checkpoint.name.removeprefix("steps-"))
    assert float(re.findall(r"equivariance error: (\S+)", resumed)[0]) < 1e-5
    agent: Any = DQN.load(tmp_path / "run" / "agent.zip")
    last: Any = EquivariantDQNModule.from_checkpoint(
        max((tmp_path / "run").glob("steps-*")) / "learner_group" / "learner" / "rl_module" / "default_policy"
    )
    x = _states()
    torch.testing.assert_close(agent.policy.q_net(x), _q_values(last)(x))
    assert not np.allclose(agent.policy.q_net(x).detach(), _q_values(_dqn("lambda_equitune"))(x).detach())


@pytest.mark.slow
def test_cartpole_is_trained_on_the_cluster(cluster: dict[str, str]) -> None:
    said = subprocess.run(
        [sys.executable, str(EXAMPLES / "rllib_cartpole.py")], env=cluster, capture_output=True, text=True, check=True
    ).stdout
    assert [int(steps) >= 3000 for steps in re.findall(r"(\d+) steps, mean return", said)] == [False, True]
    assert float(re.findall(r"equivariance error: (\S+)", said)[0]) < 1e-5
