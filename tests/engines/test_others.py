"""TorchRL, Tianshou and the style of CleanRL: trained networks are equivariant."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import equirl.envs  # noqa: F401  (registers its symmetries)
from equirl import equivariance_error
from equirl.methods import METHODS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torchrl", "tianshou"])
def test_the_network_of_an_example_is_equivariant_after_training(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(engine, reason="make engines")
    path = EXAMPLES / f"{engine}_grid.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    monkeypatch.setenv("EQUIRL_EXAMPLE_STEPS", "400")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    found = re.findall(r"equivariance error: (\S+)", capsys.readouterr().out)
    assert float(found[0]) < 1e-5


def _backbone(outputs: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, outputs))


def _cartpole(**kwargs: Any) -> Any:
    envs = pytest.importorskip("torchrl.envs", reason="make engines")
    return envs.GymEnv("CartPole-v1", **kwargs)


@pytest.mark.parametrize("categorical", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_torchrl_actor_moves_its_action_with_the_state(method: str, categorical: bool) -> None:
    env = _cartpole(categorical_action_encoding=categorical)
    from tensordict import TensorDict

    from equirl.integrations.torchrl import equivariant_q_actor

    actor = equivariant_q_actor(_backbone(), "cartpole-z2", env, method)
    x = torch.randn(3, 5, 4)  # two leading axes, as collectors of several environments give them
    here, there = (actor(TensorDict({"observation": states}, states.shape[:2])) for states in (x, -x))
    torch.testing.assert_close(here["action_value"], there["action_value"].flip(-1))
    swapped = 1 - there["action"] if categorical else there["action"].flip(-1)
    assert torch.equal(here["action"], swapped)
    bare = _backbone()(torch.cat([x, -x])).unflatten(0, (2, 3))
    assert float((bare[0] - bare[1].flip(-1)).detach().abs().max()) > 1e-2
    assert env.rollout(3, actor)["action"].shape[0] == 3


def test_a_loss_of_torchrl_trains_an_actor_and_its_target() -> None:
    env = _cartpole()
    from torchrl.objectives import DQNLoss, SoftUpdate

    from equirl.integrations.torchrl import equivariant_q_actor

    actor = equivariant_q_actor(_backbone(), "cartpole-z2", env, method_kwargs={"hidden": [8]})
    loss = DQNLoss(actor, action_space=env.action_spec, delay_value=True)
    loss.make_value_estimator(gamma=0.9)
    target, adam = SoftUpdate(loss, eps=0.5), torch.optim.Adam(loss.parameters(), 1e-2)
    frames = env.rollout(64, actor, break_when_any_done=False)
    before = [parameter.detach().clone() for parameter in actor.parameters()]
    for _ in range(5):
        adam.zero_grad()
        loss(frames)["loss"].backward()
        adam.step()
        target.step()
    changed = [not torch.equal(*pair) for pair in zip(before, actor.parameters(), strict=True)]
    assert all(changed)  # λ's among them
    network: Any = actor.module[0].module
    states = frames["observation"]
    assert equivariance_error(network, network.input_rep, network.output_rep, states) < 1e-5


@pytest.mark.parametrize(
    ("symmetry", "kind", "says"), [("cartpole-z3", ValueError, "cartpole-z2"), (3, TypeError, "an")]
)
def test_a_torchrl_actor_tells_mistakes(symmetry: Any, kind: type[Exception], says: str) -> None:
    env = _cartpole()
    from equirl.integrations.torchrl import equivariant_q_actor

    with pytest.raises(kind, match=says):
        equivariant_q_actor(_backbone(), symmetry, env)
