"""MaskablePPO: masks move with the actions, illegal actions are never drawn, and with |G| = 1 it is sb3-contrib's."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from masked_world import MaskedWorld, mirror, mirrored_action, mirrored_mask, random_masks
from parity import largest_gap
from sb3_contrib import MaskablePPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from equirl import MDPSymmetry, cyclic_group, trivial_representation
from equirl.agents import METHODS, EquivariantMaskablePolicy, load_agent

KINDS = ["Discrete", "MultiDiscrete", "MultiBinary"]


def _agent(kind: str, policy: Any = EquivariantMaskablePolicy, n_steps: int = 8, **kwargs: Any) -> MaskablePPO:
    environments = DummyVecEnv([lambda: MaskedWorld(kind)] * 4)
    settings: dict[str, Any] = {"n_steps": n_steps, "batch_size": n_steps * 2, "n_epochs": 2, "seed": 0}
    return MaskablePPO(policy, environments, policy_kwargs=kwargs, device="cpu", **settings)


def _error(agent: MaskablePPO, kind: str) -> float:
    """Return the largest difference of log pi(ga | gs, gm) and log pi(a | s, m), and of the values."""
    random = np.random.default_rng(1)
    states = torch.tensor(random.uniform(-1, 1, (64, 4)), dtype=torch.float32)
    masks = random_masks(kind, 64, random)
    with torch.no_grad():
        actions, values, log_prob = agent.policy(states, action_masks=masks)
        theirs = agent.policy.evaluate_actions(-states, mirrored_action(kind, actions), mirrored_mask(kind, masks))
    assert bool((log_prob > -1e6).all())
    return max(float((theirs[0] - values).abs().max()), float((theirs[1] - log_prob).abs().max()))


class _ErrorOfEachRollout(BaseCallback):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.errors: list[float] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.errors.append(_error(self.model, self.kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_equal_moves_are_equally_probable_before_during_and_after_training(kind: str, method: str) -> None:
    agent = _agent(kind, symmetry=mirror(kind), method=method)
    during = _ErrorOfEachRollout(kind)
    before = _error(agent, kind)
    agent.learn(96, callback=during)
    errors = [before, *during.errors, _error(agent, kind)]
    assert len(errors) == 5
    assert max(errors) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_has_power_against_a_plain_policy(kind: str) -> None:
    agent = _agent(kind, "MlpPolicy")
    assert _error(agent, kind) > 1e-3


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_illegal_actions_are_never_drawn(kind: str, method: str) -> None:
    agent = _agent(kind, symmetry=mirror(kind), method=method)
    random = np.random.default_rng(2)
    masks = random_masks(kind, 1000, random)
    states = torch.tensor(random.uniform(-1, 1, (1000, 4)), dtype=torch.float32)
    with torch.no_grad():
        drawn, _, _ = agent.policy(states, action_masks=masks)
        rows = torch.as_tensor(masks).view(1000, 1, 4) if kind == "Discrete" else _by_component(kind, masks)
        columns = drawn.long().view(1000, -1, 1)
        assert bool(rows.gather(2, columns).all())
        illegal = _illegal(kind, masks)
        some = (illegal >= 0).all(dim=1)
        _, log_prob, _ = agent.policy.evaluate_actions(states[some], illegal[some].squeeze(1), masks[some.numpy()])
    assert int(some.sum()) > 50
    assert float(log_prob.max()) < -1e7  # a probability of exactly 0 in floats
    assert float(log_prob.exp().max()) == 0.0


def _by_component(kind: str, masks: Any) -> Tensor:
    return torch.as_tensor(masks).view(len(masks), -1, 3 if kind == "MultiDiscrete" else 2)


def _illegal(kind: str, masks: Any) -> Tensor:
    """Return an action with an illegal value in each component, -1 where there is none."""
    parts = torch.as_tensor(masks).view(len(masks), 1, 4) if kind == "Discrete" else _by_component(kind, masks)
    return torch.where(parts.all(dim=2), -1, (~parts).int().argmax(dim=2))


@cache
def _stock(kind: str) -> dict[str, Tensor]:
    adam = {"fused": True, "eps": 1e-5}  # equirl's default; SB3's Adam is not fused, and rounds otherwise
    agent = _agent(kind, "MlpPolicy", n_steps=50, optimizer_kwargs=adam)
    before = agent.policy.state_dict()["action_net.weight"].clone()
    agent.learn(1000)
    assert float((agent.policy.state_dict()["action_net.weight"] - before).abs().max()) > 1e-4
    return agent.policy.state_dict()


@pytest.mark.parametrize(
    ("kind", "method"), [*(("Discrete", method) for method in METHODS), *((kind, "canonical") for kind in KINDS[1:])]
)
def test_with_one_element_it_ends_with_the_weights_of_sb3_contrib(kind: str, method: str) -> None:
    group = cyclic_group(1)
    size = mirror(kind).action.dim
    trivial = MDPSymmetry("trivial", trivial_representation(group, (4,)), trivial_representation(group, (size,)))
    agent = _agent(kind, n_steps=50, symmetry=trivial, method=method)
    agent.learn(1000)
    assert largest_gap(_stock(kind), agent.policy.state_dict()) < 1e-6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_agent_comes_back_with_its_probabilities(kind: str, method: str, tmp_path: Path) -> None:
    agent = _agent(kind, symmetry=mirror(kind), method=method)
    agent.save(tmp_path / "agent")
    loaded: Any = load_agent(tmp_path / "agent.zip", MaskedWorld(kind))
    assert isinstance(loaded, MaskablePPO)
    assert isinstance(loaded.policy, EquivariantMaskablePolicy)
    masks = random_masks(kind, 8, np.random.default_rng(3))
    states = torch.randn(8, 4).clamp(-1, 1)
    with torch.no_grad():
        actions, values, log_prob = agent.policy(states, action_masks=masks)
        theirs = loaded.policy.evaluate_actions(states, actions, masks)
    assert torch.equal(theirs[0], values)
    assert torch.equal(theirs[1], log_prob)
    loaded.learn(8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_another_size_is_an_error_that_says_which(kind: str) -> None:
    agent = _agent(kind, symmetry=mirror(kind), method="equitune")
    with pytest.raises(ValueError, match=r"masks of shape \(1, 5\) do not fit .*one column for each value"):
        agent.predict(np.zeros(4, np.float32), action_masks=np.ones((1, 5), dtype=bool))


def test_continuous_actions_have_no_masks() -> None:
    box = spaces.Box(-1, 1, (2,), np.float32)
    with pytest.raises(TypeError, match="EquivariantMaskablePolicy acts in Discrete or MultiDiscrete or MultiBinary"):
        EquivariantMaskablePolicy(box, box, lambda _: 1e-3, symmetry=mirror("Discrete"))
